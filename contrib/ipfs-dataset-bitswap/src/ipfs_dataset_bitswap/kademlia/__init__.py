"""The DHT of IPFS: a read-only client of Kademlia, which finds who has a block and what a name points to."""
