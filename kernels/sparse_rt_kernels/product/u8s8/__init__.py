"""What the families of integer products share: staging, packing, requantisation."""
