"""Plugins that break their contract, each in one way, as test modules; see `test_contracts`.

The keys are the contract's test that has to notice, the values a class body and what the failure says.
"""

from __future__ import annotations

READER = """
import struct, threading
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
        "test_samples_are_those_of_the_example",
        "`samples` of example gave 5 samples, not 6",
    ),
    "not in order": (
        "    def samples(self, source): yield from list(super().samples(source))[::-1]",
        "test_samples_are_those_of_the_example",
        "gave '5' as sample 0, where '0' is due: names come in the order of `example`",
    ),
    "another value": (
        "    def samples(self, source): return ((n, v[:-1]) for n, v in super().samples(source))",
        "test_samples_are_those_of_the_example",
        "as the value of '0', not b'AAAA",
    ),
    "values without names": (
        "    def samples(self, source): return (v for n, v in super().samples(source))",
        "test_samples_are_those_of_the_example",
        "has to give a (name, value) as sample 0, not b'AAAA",
    ),
    "keeps the object": (
        (
            "    def samples(self, source):\n"
            "        self.at = HEAD\n"
            "        for n in range(6):\n"
            "            yield str((self.at - HEAD) // WIDTH), source.read_at(self.at, WIDTH)\n"
            "            self.at += WIDTH"
        ),
        "test_one_reader_reads_several_objects",
        "for a reader keeps nothing of an object,",
    ),
    "reads no members of archives": (
        (
            "    def samples(self, source):\n"
            "        return super().samples(source) if isinstance(source, MemoryFile) else iter(())"
        ),
        "test_a_member_of_an_archive_is_decoded",
        "decoding a member gave [] as the value of '0'",
    ),
    "a part of an index that begins elsewhere": (
        (
            "    def index(self, source):\n"
            "        class Parted(Index):\n"
            "            def part(self, start, stop): return Index(stop - start)\n"
            "        return Parted(super().index(source).count)"
        ),
        "test_a_part_of_an_index_reads_its_samples",
        "`read` with `index.part(1, 2)` gave '0' as sample 0, where '1' is due",
    ),
    "an index that is longer": (
        "    def index(self, source): return Index(super().index(source).count + 1)",
        "test_random_access_agrees_with_iteration",
        "The index has 7 samples, `example` has 6",
    ),
    "off by one by number": (
        (
            "    def read(self, source, index, position):\n"
            "        return index.name(position), super().read(source, index, max(0, position - 1))[1]\n"
            "    def samples(self, source): return Good().samples(source)"
        ),
        "test_random_access_agrees_with_iteration",
        "`read` by number gave b'",
    ),
    "off by one where there are several": (
        (
            "    def read_each(self, source, index, positions):\n"
            "        return (self.read(source, index, max(0, position - 1)) for position in positions)"
        ),
        "test_random_access_agrees_with_iteration",
        "`read_each` of every other sample gave '1' as sample 1, where '2' is due",
    ),
    "an index that does not pickle": (
        "    def index(self, source): return LockedIndex(super().index(source).count)",
        "test_an_index_works_for_another_process",
        "An index has to pickle, for DataLoader workers get it so; TypeError: cannot pickle",
    ),
    "a factory that does not pickle": (
        "    pass",
        "test_the_declaration_travels_to_workers",
        "whose factory is a 'module:attribute' string or top-level class, has to pickle",
    ),
    "reads elsewhere": (
        (
            "    def read(self, source, index, position):\n"
            "        start, stop = index.span(position)\n"
            "        return index.name(position), source.read_at(0, source.size)[start:stop]"
        ),
        "test_reading_a_sample_touches_its_span",
        "outside of its span (4, 4100), which is what is fetched ahead",
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
        "test_a_cut_object_is_refused_with_our_errors",
        "has to be a FormatError or LimitError that names the object; it ended in error: unpack requires",
    ),
    "believes a length": (
        (
            "    def index(self, source):\n"
            "        bytearray(int.from_bytes(source.read_at(0, HEAD), 'little'))\n"
            "        return super().index(source)"
        ),
        "test_changed_bytes_are_refused_with_our_errors",
        "bytes of memory; 2097152 are allowed",
    ),
    "all in memory": (
        "    def samples(self, source): return iter(list(super().samples(source)))",
        "test_memory_stays_flat",
        "Reading on in a file of 20480004 bytes took",
    ),
}

TRANSPORT = """
import sqlite3, threading
import pytest
from ipfs_dataset_core import ObjectNotFoundError, Transport, TransportError, TransportPlugin
from ipfs_dataset_core.ipld import links
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
        "test_blocks_are_those_of_their_cids",
        "has to return that block of",
    ),
    "a foreign error for what is missing": (
        "    def get_block(self, cid): return self.blocks[cid.multihash]",
        "test_a_block_that_is_not_there_is_not_found",
        "has to raise ObjectNotFoundError naming bafkrei",
    ),
    "None for what is missing": (
        "    def get_block(self, cid): return self.blocks.get(cid.multihash)",
        "test_a_block_that_is_not_there_is_not_found",
        "it returned None",
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
        "test_threads_share_it",
        "Threads share a transport; in one it ended in ProgrammingError: thread",
    ),
    "a factory that does not pickle": (
        "    pass",
        "test_the_declaration_travels_to_workers",
        "whose factory is a 'module:attribute' string or top-level class, has to pickle",
    ),
    "pins what is incomplete": (
        "    def pin(self, cid): self.get_block(cid)",
        "test_nothing_incomplete_is_pinned",
        "`pin` of a DAG that lacks a block has to raise TransportError; it raised nothing",
    ),
    "stores once only": (
        (
            "    def put_blocks(self, blocks):\n"
            "        for cid, block in blocks:\n"
            "            if cid.multihash in self.blocks: raise OSError('there already')\n"
            "            self.blocks[cid.multihash] = block"
        ),
        "test_what_is_put_can_be_read_and_pinned",
        "Storing blocks, and storing them again, is no error, not OSError: there already",
    ),
    "facts that are no text": (
        "    def facts(self): return {'latency': 5}",
        "test_what_it_tells_about_itself_is_text",
        "`facts` has to be texts by label, not {'latency': 5}",
    ),
    "parts that are no transports": (
        "    def parts(self): return ['/ip4/127.0.0.1']",
        "test_what_it_tells_about_itself_is_text",
        "`parts` has to be transports, not ['/ip4/127.0.0.1']",
    ),
    "no name": (
        "    name = ''",
        "test_it_has_a_name_for_messages",
        "`name` has to be a text, not ''",
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
        "test_samples_come_back_equal_and_in_order",
        "`len` of what was loaded has to be 50, not 49",
    ),
    "not in order": (
        (
            "    def load(self, source):\n"
            "        found = super().load(source)\n"
            "        return found and Lines(found.lines[::-1])"
        ),
        "test_samples_come_back_equal_and_in_order",
        "`iterate` gave 'sample 49' as sample 0 of 50, not 'sample 0'",
    ),
    "all in memory": (
        "    def export(self, samples, sink): super().export(list(samples), sink)",
        "test_samples_are_written_as_they_come",
        "`export` has to write samples as they come, for a dataset may be larger than memory",
    ),
    "does not pickle": (
        "    def __init__(self, options): self.key = lambda: 0",
        "test_declaration_and_exporter_travel_to_workers",
        "An exporter has to pickle, for DataLoader workers get it so",
    ),
    "never the same twice": (
        (
            "    count = 0\n"
            "    def export(self, samples, sink):\n"
            "        Wrong.count += 1\n"
            "        with sink.create('stamp') as file: file.write(str(Wrong.count).encode())\n"
            "        super().export(samples, sink)"
        ),
        "test_the_same_samples_become_the_same_files",
        "and so the same CID; ['stamp'] differ",
    ),
    "a foreign error on damage": (
        (
            "    def load(self, source):\n"
            "        found = super().load(source)\n"
            "        return found and Lines([f'sample {int(line[7:])}' for line in found.lines])"
        ),
        "test_damaged_files_are_refused_with_our_errors",
        (
            "has to be a FormatError or LimitError or ObjectNotFoundError that names the object; it ended in "
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
        "test_what_batches_and_blocks_need_is_known_of_each_sample",
        "`fetch_bytes` has to yield a number of bytes for each sample asked for; it yielded [1]",
    ),
    "another sample where there are several": (
        (
            "    def load(self, source):\n"
            "        found = super().load(source)\n"
            "        if found: found.read_each = lambda positions: iter(found.lines[: len(positions)])\n"
            "        return found"
        ),
        "test_each_sample_can_be_read_by_number",
        "`read_each` of every other sample gave 'sample 1' as sample 1 of 25, not 'sample 2'",
    ),
    "blocks that end too early": (
        (
            "    def load(self, source):\n"
            "        found = super().load(source)\n"
            "        if found: found.block_stops = lambda size: [1, 2]\n"
            "        return found"
        ),
        "test_what_batches_and_blocks_need_is_known_of_each_sample",
        "`block_stops` has to rise to the number of samples; it returned [1, 2]",
    ),
    "files of which it counts too few samples": (
        (
            "    def load(self, source):\n"
            "        found = super().load(source)\n"
            "        if found: found.shard_sizes = lambda: [(1, 100)]\n"
            "        return found"
        ),
        "test_what_batches_and_blocks_need_is_known_of_each_sample",
        "`shard_sizes` has to return the samples and bytes of each file, of all samples together",
    ),
    "takes all for its own": (
        "    def load(self, source): return super().load(source) or Lines([])",
        "test_what_is_of_another_form_is_left_to_others",
        "`load` has to return None of what is of another form",
    ),
}
