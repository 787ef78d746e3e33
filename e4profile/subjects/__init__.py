"""What is profiled: one type, whatever it came from."""
