"""Training frameworks that are not in the group `test`: accelerate, Lightning, datasets, torchdata."""
