"""Checks of user input, which convert it to a common form."""
