"""The aggregation operator: reference, CPU, GPU."""
