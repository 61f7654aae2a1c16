"""The three servers on this machine: started, found and stopped by the command."""
