"""What torch needs: devices, seeds, inference."""
