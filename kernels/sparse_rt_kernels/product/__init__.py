"""What all families of matrix products and convolutions share."""
