"""Files that outlive the process: what is kept, where, and whom it is believed from."""
