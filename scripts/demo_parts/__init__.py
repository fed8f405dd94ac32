"""The steps behind `make_demo.py`: data, training and packing of the demo model."""
