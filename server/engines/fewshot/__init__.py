"""Any instruct model as policy, by a few-shot prompt."""
