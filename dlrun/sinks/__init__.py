"""Copies of a run's truth (`metrics.jsonl`, `events.jsonl`): console, W&B, TensorBoard, figures. None of them can change the training."""
