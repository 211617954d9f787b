"""Plugins that break their contract, each in one way, as test modules; see `test_contracts`.

By a description of the fault: the body of the class, the test of the contract that must fail, and a part of
its message.
"""

from __future__ import annotations

READER = """
import struct, threading, time
import pytest
from ipfs_dataset_core import FormatError, MemberIndex, Reader, ReaderPlugin
from ipfs_dataset_core.testing import Example, MemoryFile, ReaderContract

WIDTH = 4096
HEAD = 4

class Index(MemberIndex):
    def __init__(self, count): self.count = count
    def __len__(self): return self.count
    def name(self, position): return str(position)
    def span(self, position): return HEAD + position * WIDTH, HEAD + (position + 1) * WIDTH

class Good(Reader):
    cheap_index = True
    def index(self, source):
        count = int.from_bytes(source.read_at(0, HEAD), "little")
        if source.size != HEAD + count * WIDTH:
            raise FormatError(f"{source.name!r} is damaged")
        return Index(count)
    def read(self, source, index, position):
        start, stop = index.span(position)
        return index.name(position), source.read_at(start, stop - start)
    def samples(self, source):
        index = self.index(source)
        for position in range(len(index)):
            yield self.read(source, index, position)

class LockedIndex(Index):
    def __init__(self, count):
        super().__init__(count)
        self.lock = threading.Lock()

class Wrong(Good):
%s

class TestContract(ReaderContract):
    @pytest.fixture
    def plugin(self):
        return ReaderPlugin(name="wrong", summary="", factory=FACTORY)
    @pytest.fixture
    def example(self):
        records = [bytes([65 + number]) * WIDTH for number in range(6)]
        data = len(records).to_bytes(HEAD, "little") + b"".join(records)
        return Example(data, [(str(number), record) for number, record in enumerate(records)])
    @pytest.fixture
    def large(self):
        count = 5_000
        head = count.to_bytes(HEAD, "little")
        return MemoryFile(lambda start, stop: head[start:stop] + bytes(stop - max(start, HEAD)),
                          size=HEAD + count * WIDTH)
    memory_bytes = 2 << 20

FACTORY = %s
"""

WRONG_READERS = {
    "one sample too few": (
        "    def samples(self, source): yield from list(super().samples(source))[:-1]",
        "test_samples_yields_the_example",
        "`samples` must yield 6 samples, but it yielded 5",
    ),
    "not in order": (
        "    def samples(self, source): yield from list(super().samples(source))[::-1]",
        "test_samples_yields_the_example",
        "`samples` must give sample 0 the name '0', as in `example`, but the name was '5'",
    ),
    "another value": (
        "    def samples(self, source): return ((n, v[:-1]) for n, v in super().samples(source))",
        "test_samples_yields_the_example",
        "`samples` must give sample 0, '0', the value in `example`, but it had length 4095, not 4096",
    ),
    "values without names": (
        "    def samples(self, source): return (v for n, v in super().samples(source))",
        "test_samples_yields_the_example",
        "`samples` must give (name, value) as sample 0, but it gave b'AAAA",
    ),
    "keeps the object": (
        (
            "    def samples(self, source):\n"
            "        self.at = HEAD\n"
            "        for n in range(6):\n"
            "            yield str((self.at - HEAD) // WIDTH), source.read_at(self.at, WIDTH)\n"
            "            self.at += WIDTH"
        ),
        "test_one_reader_reads_two_objects_in_turn",
        "(keep no state of an object in the reader) must give sample 2 the name '2'",
    ),
    "reads no members of archives": (
        (
            "    def samples(self, source):\n"
            "        return super().samples(source) if isinstance(source, MemoryFile) else iter(())"
        ),
        "test_a_file_in_an_archive_is_decoded",
        "`samples` of a file in an archive must yield 6 samples, but it yielded 0",
    ),
    "a part of an index that begins elsewhere": (
        (
            "    def index(self, source):\n"
            "        class Parted(Index):\n"
            "            def part(self, start, stop): return Index(stop - start)\n"
            "        return Parted(super().index(source).count)"
        ),
        "test_a_part_of_an_index_reads_its_samples",
        "`read` with `part(1, 2)` of the index must give sample 0 the name '1', as in `example`",
    ),
    "an index that is longer": (
        "    def index(self, source): return Index(super().index(source).count + 1)",
        "test_random_access_agrees_with_iteration",
        "The result of `index` must have 6 samples, as many as `example`, but it has 7",
    ),
    "off by one by number": (
        (
            "    def read(self, source, index, position):\n"
            "        return index.name(position), super().read(source, index, max(0, position - 1))[1]\n"
            "    def samples(self, source): return Good().samples(source)"
        ),
        "test_random_access_agrees_with_iteration",
        "`read` must give sample 3, '3', the value in `example`, but it[0] was 67, not 68",
    ),
    "off by one where there are several": (
        (
            "    def read_each(self, source, index, positions):\n"
            "        return (self.read(source, index, max(0, position - 1)) for position in positions)"
        ),
        "test_random_access_agrees_with_iteration",
        "`read_each` of every other position must give sample 1 the name '2', as in `example`",
    ),
    "an index that does not pickle": (
        "    def index(self, source): return LockedIndex(super().index(source).count)",
        "test_an_index_can_be_pickled",
        "DataLoader workers must be able to unpickle the result of `index`, but pickling it raised TypeError",
    ),
    "a factory that does not pickle": (
        "    pass",
        "test_declaration_can_be_pickled",
        "its `factory` must be a 'module:attribute' string or a class at the top of a module",
    ),
    "reads elsewhere": (
        (
            "    def read(self, source, index, position):\n"
            "        start, stop = index.span(position)\n"
            "        return index.name(position), source.read_at(0, source.size)[start:stop]"
        ),
        "test_read_stays_within_the_span",
        "`read` of sample 0 must only read its span (4, 4100), which is what is prefetched, but it read",
    ),
    "a foreign error on damage": (
        (
            "    def index(self, source):\n"
            "        return Index(struct.unpack('<I', source.read_at(0, HEAD))[0])\n"
            "    def read(self, source, index, position):\n"
            "        name, data = super().read(source, index, position)\n"
            "        struct.unpack(f'<{WIDTH}s', data)\n"
            "        return name, data"
        ),
        "test_truncated_data_raises_typed_errors",
        "`samples` of a damaged file of 0 bytes must succeed or raise FormatError or LimitError, but it",
    ),
    "believes a length": (
        (
            "    def index(self, source):\n"
            "        bytearray(int.from_bytes(source.read_at(0, HEAD), 'little'))\n"
            "        return super().index(source)"
        ),
        "test_changed_bytes_raise_typed_errors",
        "must take at most 2097152 bytes of memory (`memory_bytes`), but it took",
    ),
    "another name in the index": (
        (
            "    def index(self, source):\n"
            "        index = super().index(source)\n"
            "        index.name = lambda position: f'record {position}'\n"
            "        return index\n"
            "    def read(self, source, index, position):\n"
            "        return str(position), super().read(source, index, position)[1]"
        ),
        "test_random_access_agrees_with_iteration",
        "of the index must return '3', but it returned 'record 3'",
    ),
    "a span beyond the file": (
        (
            "    def index(self, source):\n"
            "        index = super().index(source)\n"
            "        index.span = lambda position: (HEAD, source.size + 1)\n"
            "        return index\n"
            "    def read(self, source, index, position):\n"
            "        return super().read(source, Index(index.count), position)"
        ),
        "test_read_stays_within_the_span",
        "`span(0)` of the index must be within the 24580 bytes of the file, but it returned (4, 24581)",
    ),
    "a dumped index is not checked": (
        (
            "    index_form = 'wrong 1'\n"
            "    def index(self, source):\n"
            "        index = super().index(source)\n"
            "        index.dump = lambda: struct.pack('<I', index.count)\n"
            "        return index\n"
            "    def load_index(self, source, data):\n"
            "        index = Index(*struct.unpack('<I', data))\n"
            "        index.dump = lambda: data\n"
            "        return index"
        ),
        "test_a_dumped_index_can_be_loaded",
        "`load_index` of truncated bytes must succeed or raise ValueError, but it raised error: unpack",
    ),
    "slices that overlap": (
        (
            "    def sliceable(self, source): return True\n"
            "    def samples_between(self, source, start, stop):\n"
            "        index = self.index(source)\n"
            "        for position in range(len(index)):\n"
            "            low, high = index.span(position)\n"
            "            if low < stop and high > start:\n"
            "                yield self.read(source, index, position)"
        ),
        "test_slices_together_contain_each_sample_once",
        "`samples_between` of 2 slices together must give sample 3 the name '3', as in `example`",
    ),
    "a number of samples that is wrong": (
        (
            "    def sliceable(self, source): return True\n"
            "    def samples_between(self, source, start, stop): return self.samples(source)\n"
            "    def count_between(self, source, start, stop): return 5"
        ),
        "test_slices_together_contain_each_sample_once",
        "must return 6, the number of samples that `samples_between` yields, or None, but it returned 5",
    ),
    "one object at a time": (
        (
            "    def samples(self, source):\n"
            "        self.readers = getattr(self, 'readers', 0) + 1\n"
            "        if self.readers > 1: raise OSError('busy')\n"
            "        yield from super().samples(source)\n"
            "        time.sleep(0.5)\n"
            "        self.readers -= 1"
        ),
        "test_threads_can_share_one_reader",
        "`samples` of one reader in several threads at the same time must raise no error, but it raised",
    ),
    "all in memory": (
        "    def samples(self, source): return iter(list(super().samples(source)))",
        "test_memory_use_is_bounded",
        "`samples` of a file of 20480004 bytes must take at most 2097152 bytes of memory",
    ),
}

TRANSPORT = """
import io, sqlite3, threading
import pytest
from ipfs_dataset_core import ObjectNotFoundError, Transport, TransportError, TransportPlugin
from ipfs_dataset_core.ipld import CID, RAW, links
from ipfs_dataset_core.testing import TransportContract
from ipfs_dataset_core.testing.transports import example_blocks

class Good(Transport):
    name = "wrong"
    writable = True
    def __init__(self, address, options):
        self.blocks = {cid.multihash: block for cid, block in example_blocks()[1].items()}
    def get_block(self, cid):
        if cid.multihash not in self.blocks:
            raise ObjectNotFoundError(f"wrong: has no block {cid}")
        return self.blocks[cid.multihash]
    def put_blocks(self, blocks):
        self.blocks.update((cid.multihash, block) for cid, block in blocks)
    def pin(self, cid):
        for link in links(cid, self.get_block(cid)):
            self.pin(link)

class Wrong(Good):
%s

class TestContract(TransportContract):
    @pytest.fixture
    def plugin(self):
        return TransportPlugin(name="wrong", summary="", schemes=("wrong",), factory=FACTORY)
    @pytest.fixture
    def address(self):
        return "wrong://"

FACTORY = %s
"""

WRONG_TRANSPORTS = {
    "cuts blocks off": (
        "    def get_block(self, cid): return super().get_block(cid)[:-1]",
        "test_get_block_returns_the_block_of_the_cid",
        "must return that block of 1048576 bytes, but it returned 1048575 bytes",
    ),
    "a foreign error for what is missing": (
        "    def get_block(self, cid): return self.blocks[cid.multihash]",
        "test_a_missing_block_raises_object_not_found",
        "`get_block` of a missing block must raise ObjectNotFoundError, but it raised KeyError",
    ),
    "None for what is missing": (
        "    def get_block(self, cid): return self.blocks.get(cid.multihash)",
        "test_a_missing_block_raises_object_not_found",
        "`get_block` of a missing block must raise ObjectNotFoundError, but it returned None",
    ),
    "one thread only": (
        (
            "    def __init__(self, address, options):\n"
            "        super().__init__(address, options)\n"
            "        self.thread = threading.get_ident()\n"
            "    def get_block(self, cid):\n"
            "        if threading.get_ident() != self.thread: raise sqlite3.ProgrammingError('thread')\n"
            "        return super().get_block(cid)"
        ),
        "test_threads_can_share_a_transport",
        "must work in several threads at the same time, but one thread raised ProgrammingError: thread",
    ),
    "a factory that does not pickle": (
        "    pass",
        "test_declaration_can_be_pickled",
        "its `factory` must be a 'module:attribute' string or a class at the top of a module",
    ),
    "pins what is incomplete": (
        "    def pin(self, cid): self.get_block(cid)",
        "test_an_incomplete_dag_cannot_be_pinned",
        "`pin` of a DAG with a missing block must raise TransportError, but it raised nothing",
    ),
    "stores once only": (
        (
            "    def put_blocks(self, blocks):\n"
            "        for cid, block in blocks:\n"
            "            if cid.multihash in self.blocks: raise OSError('there already')\n"
            "            self.blocks[cid.multihash] = block"
        ),
        "test_stored_blocks_can_be_read_and_pinned",
        "and of the same blocks again, must raise no error, but it raised OSError: there already",
    ),
    "facts that are no text": (
        "    def facts(self): return {'latency': 5}",
        "test_facts_are_texts_and_parts_are_transports",
        "`facts` must return texts by label, but it returned {'latency': 5}",
    ),
    "parts that are no transports": (
        "    def parts(self): return ['/ip4/127.0.0.1']",
        "test_facts_are_texts_and_parts_are_transports",
        "`parts` must return transports, but it returned ['/ip4/127.0.0.1']",
    ),
    "another CID than was requested": (
        (
            "    def get_blocks(self, cids):\n"
            "        found = {cid.multihash: cid for cid in cids if cid.multihash in self.blocks}\n"
            "        for cid in found.values():\n"
            "            yield CID(1, cid.codec, cid.multihash), self.blocks[cid.multihash]"
        ),
        "test_get_blocks_yields_each_block_once",
        "must yield all 8 blocks that exist and leave out the missing one",
    ),
    "a block twice": (
        (
            "    def get_blocks(self, cids):\n"
            "        for cid in cids:\n"
            "            if cid.multihash in self.blocks:\n"
            "                yield cid, self.blocks[cid.multihash]\n"
            "                yield cid, self.blocks[cid.multihash]"
        ),
        "test_get_blocks_yields_each_block_once",
        "`get_blocks` must yield each block once, but it yielded 16 blocks for 8 CIDs",
    ),
    "an error for one missing block": (
        "    def get_blocks(self, cids): return [(cid, self.get_block(cid)) for cid in cids]",
        "test_get_blocks_yields_each_block_once",
        "`get_blocks` of several blocks, one of which is missing, must raise no error, but it raised Object",
    ),
    "a range with one byte too many": (
        (
            "    serves_ranges = True\n"
            "    def open_range(self, cid, start, stop):\n"
            "        blocks = example_blocks()[1]\n"
            "        whole = b''.join(block for cid, block in blocks.items() if cid.codec == RAW)\n"
            "        return io.BytesIO(whole[start : stop + 1])"
        ),
        "test_open_range_returns_bytes_of_the_file",
        "`open_range(cid, 0, 1)` must give those 1 bytes of the file, but it gave 2 bytes",
    ),
    "a CAR of the root only": (
        ("    serves_cars = True\n    def read_car(self, cid): yield cid, self.get_block(cid)"),
        "test_read_car_yields_all_blocks_of_the_dag",
        "`read_car` must yield the 7 blocks of the DAG, but of these it yielded 1, and 0 others",
    ),
    "stored blocks are lacking": (
        "    def lacking(self, blocks): return [b for b in blocks if b[0].multihash in self.blocks]",
        "test_lacking_returns_blocks_that_are_not_stored",
        "`lacking(blocks)` must return the pairs whose blocks are not stored yet, in the same order",
    ),
    "pins what the block links to": (
        ("    def pin_blocks(self, cids):\n        for cid in cids: self.pin(cid)"),
        "test_pin_blocks_pins_single_blocks",
        "`pin_blocks` of a block whose links are missing must raise no error, but it raised ObjectNotFound",
    ),
    "is closed once": (
        (
            "    def close(self):\n"
            "        if self.blocks is None: raise ValueError('closed already')\n"
            "        self.blocks = None"
        ),
        "test_close_can_be_called_twice",
        "`close`, called twice, must raise no error, but it raised ValueError: closed already",
    ),
    "no requests at all": (
        "    concurrency = 0",
        "test_name_and_concurrency_are_valid",
        "`concurrency` must be at least 1, but it is 0",
    ),
    "no name": (
        "    name = ''",
        "test_name_and_concurrency_are_valid",
        "`name` must be a text that is not empty, but it is ''",
    ),
}

EXPORTER = """
import json
import pytest
from ipfs_dataset_core import Exporter, ExporterPlugin, FormatError, PublishedSamples
from ipfs_dataset_core.testing import ExporterContract

class Lines(PublishedSamples):
    def __init__(self, lines): self.lines = lines
    def __len__(self): return len(self.lines)
    def read(self, position): return self.lines[position]
    def iterate(self, start, stop): return iter(self.lines[start:stop])

class Good(Exporter):
    def __init__(self, options): self.options = options
    def export(self, samples, sink):
        with sink.create("lines.txt") as file:
            for sample in samples:
                file.write(sample.encode() + b"\\n")
    def load(self, source):
        if not hasattr(source, "contains") or not source.contains("lines.txt"):
            return None
        text = source.open("lines.txt").read().decode("utf-8", "replace")
        return Lines(text.split("\\n")[:-1])

class Wrong(Good):
%s

class TestContract(ExporterContract):
    @pytest.fixture
    def plugin(self):
        return ExporterPlugin(name="wrong", summary="", factory=FACTORY)
    @pytest.fixture
    def samples(self):
        return [f"sample {number}" for number in range(50)]

FACTORY = %s
"""

WRONG_EXPORTERS = {
    "one sample too few": (
        (
            "    def load(self, source):\n"
            "        found = super().load(source)\n"
            "        return found and Lines(found.lines[:-1])"
        ),
        "test_samples_are_equal_and_in_order_after_publishing",
        "`len` of the loaded samples must be 50, but it was 49",
    ),
    "not in order": (
        (
            "    def load(self, source):\n"
            "        found = super().load(source)\n"
            "        return found and Lines(found.lines[::-1])"
        ),
        "test_samples_are_equal_and_in_order_after_publishing",
        "`iterate` must give sample 0 as it was exported, but it had length 9, not 8: 'sample 49', not",
    ),
    "all in memory": (
        "    def export(self, samples, sink): super().export(list(samples), sink)",
        "test_samples_are_written_as_they_arrive",
        "`export` must write samples as they arrive, because a dataset may be larger than memory",
    ),
    "does not pickle": (
        "    def __init__(self, options): self.key = lambda: 0",
        "test_declaration_and_exporter_can_be_pickled",
        "DataLoader workers must be able to unpickle the exporter, but pickling it raised",
    ),
    "never the same twice": (
        (
            "    count = 0\n"
            "    def export(self, samples, sink):\n"
            "        Wrong.count += 1\n"
            "        with sink.create('stamp') as file: file.write(str(Wrong.count).encode())\n"
            "        super().export(samples, sink)"
        ),
        "test_equal_samples_are_published_as_equal_files",
        "so that they have the same CID, but the files ['stamp'] of two exports differ",
    ),
    "a foreign error on damage": (
        (
            "    def load(self, source):\n"
            "        found = super().load(source)\n"
            "        return found and Lines([f'sample {int(line[7:])}' for line in found.lines])"
        ),
        "test_damaged_files_raise_typed_errors",
        (
            "must succeed or raise FormatError or LimitError or ObjectNotFoundError, but it raised "
            "ValueError: invalid literal"
        ),
    ),
    "no cost for some samples": (
        (
            "    def load(self, source):\n"
            "        found = super().load(source)\n"
            "        if found: found.fetch_bytes = lambda positions: iter([1])\n"
            "        return found"
        ),
        "test_fetch_bytes_block_stops_and_shard_sizes_cover_all_samples",
        "`fetch_bytes` must yield a number of bytes for each of 50 positions, but it yielded 1: [1]",
    ),
    "another sample where there are several": (
        (
            "    def load(self, source):\n"
            "        found = super().load(source)\n"
            "        if found: found.read_each = lambda positions: iter(found.lines[: len(positions)])\n"
            "        return found"
        ),
        "test_each_sample_can_be_read_by_position",
        "`read_each` of every other position must give sample 1 as it was exported, but it was 'sample 1'",
    ),
    "blocks that end too early": (
        (
            "    def load(self, source):\n"
            "        found = super().load(source)\n"
            "        if found: found.block_stops = lambda size: [1, 2]\n"
            "        return found"
        ),
        "test_fetch_bytes_block_stops_and_shard_sizes_cover_all_samples",
        "`block_stops` must return ascending positions that end with 50, the number of samples, but it",
    ),
    "files of which it counts too few samples": (
        (
            "    def load(self, source):\n"
            "        found = super().load(source)\n"
            "        if found: found.shard_sizes = lambda: [(1, 100)]\n"
            "        return found"
        ),
        "test_fetch_bytes_block_stops_and_shard_sizes_cover_all_samples",
        "`shard_sizes` must return (samples, bytes) for each file, with 50 samples in total, but it returned",
    ),
    "does not recognise its own files": (
        "    def load(self, source): return None",
        "test_samples_are_equal_and_in_order_after_publishing",
        "`load` must return what `export` wrote, but it returned None",
    ),
    "iterates everything": (
        (
            "    def load(self, source):\n"
            "        found = super().load(source)\n"
            "        if found: found.iterate = lambda start, stop: iter(found.lines)\n"
            "        return found"
        ),
        "test_any_part_can_be_iterated",
        "`iterate(0, 0)` must give 0 samples, but it gave 50",
    ),
    "takes all for its own": (
        "    def load(self, source): return super().load(source) or Lines([])",
        "test_load_returns_none_for_other_data",
        "`load` of a directory that the exporter did not write must return None, but it returned",
    ),
}
