"""The stores: their contract, and the ones in SQL."""
