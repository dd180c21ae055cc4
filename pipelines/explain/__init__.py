"""Explanations of trained models: heat maps and predictions with changed inputs."""
