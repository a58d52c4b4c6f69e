"""Choice by measurement: what is timed, how it is judged, and where decisions are kept."""
