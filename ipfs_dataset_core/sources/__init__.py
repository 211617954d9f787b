"""Several sources as one: failover, retries, hedging, rate limits, caches."""
