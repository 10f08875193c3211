"""The door: what a user passes, checked and brought to one form."""
