"""Model access: the only place that imports litellm."""
