"""Datasets: what users construct, index, iterate and shuffle."""
