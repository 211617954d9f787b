"""The HTTP client of the transports, configured by requests and sending through urllib3.

`client` builds requests and restricts which server receives which credentials. `environment` reads proxies
and certificates from environment variables. `connection` and `response` extend the classes of urllib3 and
`http.client` by filtered addresses, a minimum transfer rate, a deadline, and limits for headers and trailers.
"""
