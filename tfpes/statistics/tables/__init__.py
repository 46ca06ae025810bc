"""What is gathered from labels; tables merge exactly."""
