// Runs a js-ipfs daemon as `jsipfs daemon` does, with yamux beside mplex, which is all that its command line has.
// The repository is made where there is none, with some settings:
//
//     IPFS_PATH=repo node jsipfs_peer.mjs path/to/node_modules '{"Bootstrap": []}'
import { pathToFileURL } from 'node:url'

const modules = pathToFileURL(`${process.argv[2]}/`)
const load = (file) => import(new URL(file, modules).href)

const { Daemon } = await load('ipfs-daemon/src/index.js')
const { yamux } = await load('@chainsafe/libp2p-yamux/dist/src/index.js')

const daemon = new Daemon({
  repo: process.env.IPFS_PATH,
  init: { emptyRepo: true, profiles: ['test'] },
  config: JSON.parse(process.argv[3]),
  preload: { enabled: false },
  libp2p: { streamMuxers: [yamux()] }
})
process.on('SIGTERM', async () => {
  await daemon.stop()
  process.exit(0)
})
await daemon.start() // prints where the swarm listens
for (const server of daemon._httpApi._apiServers) {
  console.log(`HTTP API listening on ${server.info.ma}`)
}
for (const server of daemon._httpGateway._gatewayServers) {
  console.log(`Gateway (read only) listening on ${server.info.ma}`)
}
console.log('Daemon is ready')
