"""Choice by measurement: what is timed, how it is decided from that, and where decisions are kept."""
