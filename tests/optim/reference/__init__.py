"""Every method once more: one pair at a time, float64, explicit factorizations.

Written to be compared with the paper line by line, not to be fast. A reference is a
class that holds its state: ``Reference(pairs, lr, **options)`` with
``step(gradients)``, both lists of (B, A) tuples.
"""
