"""RecipeService on the wire."""

# ruff: noqa: ARG002, N802 (names and arguments are gRPC's)

from typing import Any

import grpc

from lookalike_protos.trainer.v1 import recipes_pb2 as pb
from lookalike_protos.trainer.v1.recipes_pb2_grpc import RecipeServiceServicer
from lookalike_runtime.errors import NotFound
from lookalike_runtime.paging import decode_token, encode_token, page_size
from lookalike_runtime.resource_names import parse_name
from lookalike_trainer.training.errors import JobError
from lookalike_trainer.training.recipe_files import DEFAULT_RECIPE, complete_text, extended_by, load_recipe, recipe_names, recipe_text

Context = grpc.aio.ServicerContext[Any, Any]


class RecipeServicer(RecipeServiceServicer):
    """Translates calls about recipes."""

    async def ListRecipes(self, request: pb.ListRecipesRequest, context: Context) -> pb.ListRecipesResponse:
        size, seen = page_size(request.page_size), decode_token(request.page_token) or ""
        left = [name for name in recipe_names() if name > seen]
        token = encode_token(left[size - 1]) if len(left) > size else ""
        return pb.ListRecipesResponse(recipes=[_recipe(name) for name in left[:size]], next_page_token=token)

    async def GetRecipe(self, request: pb.GetRecipeRequest, context: Context) -> pb.Recipe:
        (name,) = parse_name("name", request.name, "recipes")
        try:
            toml = recipe_text(name)
        except JobError as error:
            raise NotFound(error.reason, str(error)) from None
        recipe = _recipe(name)
        recipe.toml, recipe.complete_toml = toml, complete_text(load_recipe(name))
        return recipe


def _recipe(name: str) -> pb.Recipe:
    base = extended_by(name)
    return pb.Recipe(
        name=f"recipes/{name}",
        description=load_recipe(name).description,
        default=name == DEFAULT_RECIPE,
        extends=f"recipes/{base}" if base else "",
    )
