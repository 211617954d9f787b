"""Combines several sources: failover, retries, hedging, rate limits, caches."""
