"""Dense convolutions that pack nothing: tiles read a padded image of 4-byte words, a float or 4 int8 channels each."""
