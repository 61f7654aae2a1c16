"""What is wrong with a dataset's pictures: found from their pixels and their vectors."""
