"""What profiles show: predictions of configurations, and recommendations.

The public names are those of `lithowatt.profiles`.
"""
