"""What this machine is: tiers of instructions, caches, and which CPUs the process may use."""
