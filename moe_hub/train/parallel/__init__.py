"""Training by several processes under torchrun: torch.distributed, DDP and FSDP2; rank 0 writes the run directory."""
