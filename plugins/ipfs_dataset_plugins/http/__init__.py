"""The HTTP client that the transports share: requests configures it, urllib3 sends.

`client` decides what is sent and who sees which credentials; `connection_pool` takes proxies and certificate
authorities from the environment; `connection` and `response` are urllib3's and `http.client`'s classes with
the limits of ours: a minimum transfer rate, a deadline in all, bounded heads and trailers.
"""
