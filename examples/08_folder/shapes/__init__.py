"""The package beside the script."""
