"""The DHT of IPFS: a read-only Kademlia client, which finds providers of blocks and targets of names."""
