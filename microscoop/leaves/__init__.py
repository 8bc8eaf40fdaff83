"""What stands apart from the core: each is imported only when it is asked for."""
