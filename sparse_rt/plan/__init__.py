"""From a model to a plan: fuse neighbours, choose a kernel for each layer, schedule frozen steps."""
