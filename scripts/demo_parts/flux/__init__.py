"""The FLUX.1 demo base: what differs from the SDXL one."""
