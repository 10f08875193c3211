"""What model files may hold, checked before anything in them is used."""
