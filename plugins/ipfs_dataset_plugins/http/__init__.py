"""The HTTP client of the transports: requests configures it, urllib3 sends.

`client` builds requests and limits who receives which credentials. `environment` takes proxies and
certificates from environment variables. `connection` and `response` extend the classes of urllib3 and
`http.client` by filtered addresses, a minimum transfer rate, a deadline, and limits for headers and trailers.
"""
