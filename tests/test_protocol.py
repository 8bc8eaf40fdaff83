"""Messages, frames and channels, with all that may come instead of them; and whole runs in which a process speaks
anything but the protocol: it is ended, the run goes on."""
from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import struct
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, Dict, List, Tuple

from microscoop import broker
from microscoop.channel import Channel, Frames, framed
from microscoop.link import Bell, Link
from microscoop.loop import Loop
from microscoop.ports import Port
from microscoop.protocol import (
    FRAME_LIMIT,
    LATER,
    SAID_LIMIT,
    TABLE,
    WORKER,
    Died,
    Drop,
    Idle,
    Kill,
    Message,
    Piece,
    Ping,
    ProtocolError,
    Relay,
    Spawn,
    Unfit,
    decode,
    encode,
    idles,
)
from tests import harness
from tests.test_launch import LaunchCase

FUZZ = 1_000_000 if os.environ.get("MICROSCOOP_SLOW_TESTS") else 100_000
BUFFER = 2 * (FRAME_LIMIT + 4)  # what one channel's buffer may grow to
LARGEST = {code: 2 ** (8 * struct.calcsize("!" + code)) - 1 for code in "BIQ"}
HEADER = struct.Struct("!i")


def some_message(chance: random.Random, code: int, most: int = 1 << 64) -> Message:
    """One with random fields, none above `most`, the extremes among them."""
    cls, form = TABLE[code]
    fields: List[Any] = []
    for letter in form.replace("16s", "s"):
        top = min(LARGEST.get(letter, 0), most)
        fields.append(chance.choice((0, 1, 2, 3, top, chance.randint(0, top))) if top else os.urandom(16))
    if "body" in cls._fields:
        fields.append(chance.choice((b"", b"x", bytes(chance.getrandbits(8) for _ in range(chance.randrange(60))))))
    message: Message = cls(*fields)
    return message


def some_bytes(size: int) -> bytes:
    """So many, which could be a message."""
    return bytes([LATER]) + os.urandom(size - 1)


def fed(frames: Frames, data: bytes) -> List[bytes]:
    """The frames that come of these bytes, read as they come."""
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    found: List[bytes] = []
    try:
        for at in range(0, len(data), 4096):
            os.write(theirs, data[at:at + 4096])
            with contextlib.suppress(BlockingIOError):
                while True:
                    found += frames.read(ours)
    finally:
        os.close(ours)
        os.close(theirs)
    return found


def frames_of(*pieces: bytes) -> List[bytes]:
    """The frames in these pieces of a stream."""
    frames = Frames()
    return [frame for piece in pieces for frame in fed(frames, piece)]


class Messages(unittest.TestCase):
    def test_each_survives_its_bytes(self) -> None:
        chance = random.Random(1)
        for code, (cls, _) in TABLE.items():
            for _ in range(50):
                message = some_message(chance, code)
                frame = encode(message)
                self.assertEqual((type(decode(frame)), decode(frame), frame[0]), (cls, message, code))

    def test_the_largest_body_survives(self) -> None:
        for message in (Unfit(bytes(FRAME_LIMIT - 1)), Relay(1, bytes(FRAME_LIMIT - 5))):
            self.assertEqual([decode(frame) for frame in frames_of(framed(encode(message)))], [message])

    def test_what_a_process_may_say_fits_into_a_relay(self) -> None:
        frame = encode(Relay((1 << 32) - 1, bytes(SAID_LIMIT)))
        self.assertEqual(frames_of(framed(frame)), [frame])

    def test_an_unknown_code_is_an_error(self) -> None:
        for code in set(range(256)) - set(TABLE):
            with self.assertRaisesRegex(ProtocolError, "not a message"):
                decode(bytes([code]) + bytes(100))
        self.assertRaises(ProtocolError, decode, b"")

    def test_one_that_is_cut_or_has_bytes_too_many_is_an_error(self) -> None:
        chance = random.Random(2)
        for code, (cls, form) in TABLE.items():
            frame, size = encode(some_message(chance, code)), struct.calcsize("!B" + form)
            for length in range(size):
                self.assertRaises(ProtocolError, decode, frame[:length])
            if "body" not in cls._fields:
                with self.assertRaisesRegex(ProtocolError, "1 bytes too many after " + cls.__name__):
                    decode(frame + b"x")

    def test_one_that_this_side_does_not_say_is_an_error(self) -> None:
        for code, (cls, _) in TABLE.items():
            frame = encode(some_message(random.Random(code), code))
            if cls in broker.SAID:
                self.assertIs(type(decode(frame, broker.SAID)), cls)
            else:
                with self.assertRaisesRegex(ProtocolError, cls.__name__):
                    decode(frame, broker.SAID)

    def test_an_idle_worker_is_seen_in_its_bytes(self) -> None:
        for over in (0, 1):
            self.assertEqual(idles(encode(Idle(over, 300)), 300), bool(over))
            self.assertFalse(idles(encode(Idle(over, 300)), 301))


class Pairs(unittest.TestCase):
    def pair(self) -> Tuple[socket.socket, socket.socket]:
        ends = socket.socketpair()
        for end in ends:
            self.addCleanup(end.close)
        return ends

    def channel(self) -> Tuple[Channel, socket.socket]:
        """A channel over one end, and the other end."""
        ours, theirs = self.pair()
        theirs.settimeout(10)
        return Channel(ours.fileno(), ours.fileno()), theirs


class FramesOnTheirWay(Pairs):
    SIZES = (1, 2, 4, 100, 16379, 16380, 16381, 16384, 1 << 15, 100_000, 1 << 18, FRAME_LIMIT)

    def test_are_read_as_a_connection_of_multiprocessing_writes_them(self) -> None:
        ours, theirs = self.pair()
        payloads = [some_bytes(size) for size in self.SIZES]
        frames, found = Frames(), []
        with Connection(theirs.detach()) as connection, ThreadPoolExecutor(1) as pool:
            sent = pool.submit(lambda: [connection.send_bytes(payload) for payload in payloads])
            while len(found) < len(payloads):
                found += frames.read(ours.fileno())
            sent.result()
        self.assertEqual(found, payloads)

    def test_are_written_as_a_connection_of_multiprocessing_reads_them(self) -> None:
        channel, theirs = self.channel()
        payloads = [some_bytes(size) for size in self.SIZES]
        theirs.setblocking(True)
        with Connection(theirs.detach()) as connection, ThreadPoolExecutor(1) as pool:
            found = pool.submit(lambda: [connection.recv_bytes() for _ in payloads])
            for payload in payloads:
                channel.send(payload)
            while not channel.flush():
                select.select([], [channel.writer], [])
            self.assertEqual(found.result(), payloads)

    def test_may_come_in_any_parts(self) -> None:
        chance = random.Random(3)
        payloads = [some_bytes(chance.choice((1, 3, 50, 3000, 20000, 70000))) for _ in range(60)]
        stream = b"".join(map(framed, payloads))
        cuts = [0, *sorted(chance.randrange(len(stream)) for _ in range(200)), len(stream)]
        self.assertEqual(frames_of(*(stream[a:b] for a, b in zip(cuts, cuts[1:]))), payloads)
        self.assertEqual(frames_of(stream), payloads)
        short = b"".join(map(framed, payloads[:8]))[:40000]
        whole = frames_of(short)
        self.assertEqual(frames_of(*(short[i:i + 1] for i in range(len(short)))), whole)

    def test_are_whole_after_the_buffer_has_grown_between_two_of_them(self) -> None:
        ours, theirs = self.pair()
        frames = Frames()
        small, large = some_bytes(10000), some_bytes(FRAME_LIMIT)
        found, stream = [], memoryview(framed(small) + framed(large) + framed(small))
        theirs.setblocking(False)
        while len(found) < 3:
            if stream:
                stream = stream[theirs.send(stream[:30000]):]
            found += frames.read(ours.fileno())
        self.assertEqual(found, [small, large, small])
        self.assertLessEqual(len(frames._buffer), BUFFER)

    def test_of_an_absurd_length_are_an_error_and_no_memory_is_taken_for_them_however_often_one_looks(self) -> None:
        ours, theirs = self.pair()
        for length in (0, -1, -(1 << 31), FRAME_LIMIT + 1, (1 << 31) - 1, 0x20202020):
            frames = Frames()
            theirs.sendall(HEADER.pack(length))
            for data in (b"", b"more", b"and more"):
                theirs.sendall(data)
                with self.assertRaisesRegex(ProtocolError, "not a message"):
                    decode(frames.read(ours.fileno())[-1])
            self.assertLess(len(frames._buffer), 1 << 15)

    def test_that_begin_like_no_message_are_not_waited_for(self) -> None:
        for code in range(256):
            frames = Frames()
            self.assertEqual(fed(frames, HEADER.pack(1000)), [])
            if code in TABLE:
                self.assertEqual(fed(frames, bytes([code])), [])
            else:
                (refused,) = fed(frames, bytes([code]))
                with self.assertRaises(ProtocolError) as caught:
                    decode(refused)
                self.assertEqual(str(caught.exception), f"not a message: {HEADER.pack(1000) + bytes([code])!r}")

    def test_end_with_the_channel(self) -> None:
        ours, theirs = self.pair()
        theirs.sendall(framed(b"last") + HEADER.pack(10) + some_bytes(4))
        theirs.close()
        frames = Frames()
        self.assertEqual(frames.read(ours.fileno()), [b"last"])
        self.assertRaises(EOFError, frames.read, ours.fileno())


class Channels(Pairs):
    PIECE = encode(Piece(1, 2, 3, 4, bytes(100_000)))

    def everything(self, channel: Channel, theirs: socket.socket, size: int = 1 << 16) -> List[bytes]:
        """What comes out at the other end, for a reader that takes so many bytes at a time."""
        frames, found = Frames(), []
        while channel.waiting:
            channel.flush()
            found += fed(frames, theirs.recv(size))
        theirs.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                found += fed(frames, theirs.recv(size))
        return found

    def test_control_frames_overtake_pieces(self) -> None:
        channel, theirs = self.channel()
        for _ in range(100):
            channel.send(self.PIECE, True)
        self.assertFalse(channel.flush())
        written = (100 * len(framed(self.PIECE)) - channel.waiting) // len(self.PIECE)
        pings = [encode(Ping(number)) for number in range(3)]
        for ping in pings:
            channel.send(ping)
        found = self.everything(channel, theirs)
        self.assertEqual([found.index(ping) for ping in pings], [written + 1 + number for number in range(3)])
        self.assertEqual(found.count(self.PIECE), 100)

    def test_a_slow_reader_gets_all_in_order(self) -> None:
        channel, theirs = self.channel()
        frames = [encode(Relay(number, os.urandom(number % 700))) for number in range(3000)]
        for frame in frames:
            channel.send(frame)
        self.assertFalse(channel.flush())
        self.assertEqual(self.everything(channel, theirs, 1009), frames)
        self.assertTrue(channel.flush())
        self.assertEqual(channel.waiting, 0)

    def test_what_is_discarded_is_not_written(self) -> None:
        channel, theirs = self.channel()
        channel.send(self.PIECE)
        while channel.flush():
            channel.send(self.PIECE, True)
        channel.discard()
        self.assertEqual((channel.waiting, channel.flush()), (0, True))
        self.everything(channel, theirs)
        self.assertRaises(BlockingIOError, theirs.recv, 1)

    def test_a_writer_whose_reader_is_gone_is_told(self) -> None:
        channel, theirs = self.channel()
        theirs.close()
        channel.send(b"x")
        self.assertRaises(OSError, channel.flush)
        self.assertRaises(EOFError, channel.receive)

    def test_a_reader_with_nothing_to_read_does_not_block(self) -> None:
        channel, theirs = self.channel()
        self.assertEqual(channel.receive(), [])
        theirs.sendall(framed(b"one") + framed(b"two"))
        self.assertEqual(channel.receive(), [b"one", b"two"])

    def test_the_last_words_of_a_process_are_heard_whole_however_long(self) -> None:
        for size in (100, 20_000, 100_000):
            ours, theirs = socket.socketpair()
            said = [encode(Unfit(bytes([number]) * size)) for number in (1, 2)]
            port = Port(Loop(), 1, [ours.detach()], *[lambda *_: None] * 3)
            with theirs:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                theirs.sendall(b"".join(map(framed, said)))
            self.assertEqual(list(port.last()), said)
            port.close()

    def test_a_process_speaks_and_hears_whole_messages_and_can_be_woken(self) -> None:
        channel, theirs = self.channel()
        theirs.settimeout(0.1)                      # as socket.setdefaulttimeout has it
        link = Link(theirs)
        link.send(Idle(1), Unfit(b"why"))
        self.assertEqual([decode(frame) for frame in channel.receive()], [Idle(1), Unfit(b"why")])
        channel.send(encode(Kill(3)))
        channel.flush()
        self.assertTrue(link.attend(1))
        self.assertEqual(link.receive(), [Kill(3)])
        self.assertEqual(link.receive(), [])
        self.assertFalse(link.attend(0))
        for _ in range(100_000):                    # more than a pipe holds
            link.poke()
        self.assertFalse(link.attend(None))
        os.close(os.dup(channel.reader))
        channel.send(b"\xfa")
        channel.flush()
        self.assertTrue(link.attend(None))
        self.assertRaises(ProtocolError, link.receive)

    @unittest.skipUnless(hasattr(select, "epoll"), "nobody listens without epoll(7)")
    def test_what_comes_is_for_the_thread_that_listens_and_the_reader_thread_s_again_while_others_wait(self) -> None:
        channel, theirs = self.channel()
        theirs.settimeout(None)
        link = Link(theirs)

        def heard() -> Tuple[bool, bool]:
            return link.attend(0), link.hear(0)

        self.assertTrue(link.listen())
        channel.send(encode(Kill(3)))
        channel.flush()
        self.assertEqual(heard(), (False, True))
        self.assertFalse(link.listen())
        others = [Bell(link) for _ in range(2)]
        for bell in others:
            bell.take_out()
            self.assertEqual(heard(), (True, True))
        others[0].put_away()
        self.assertEqual(heard(), (True, True))
        others[1].put_away()
        self.assertEqual(heard(), (False, True))
        link.stop_listening()
        self.assertTrue(link.attend(0))
        self.assertEqual(link.receive(), [Kill(3)])
        self.assertEqual(heard(), (False, False))

    @unittest.skipUnless(hasattr(select, "epoll"), "nobody listens without epoll(7)")
    def test_a_bell_ends_the_sleep_of_its_thread_or_the_next_whether_that_listens_or_not(self) -> None:
        for listens in (True, False):
            _, theirs = self.channel()
            link = Link(theirs)
            self.assertTrue(listens or link.listen())
            bell = Bell(link)
            bell.ring()                             # say by an object's __del__
            bell.take_out()
            began = time.monotonic()
            for _ in range(3):
                self.assertFalse(bell.sleep(20))
                bell.ring()
            self.assertFalse(bell.sleep(20))
            threading.Timer(0.01, bell.ring).start()
            self.assertFalse(bell.sleep(20))
            self.assertLess(time.monotonic() - began, 10)
            self.assertFalse(bell.sleep(0.01))


class Fuzz(unittest.TestCase):
    """Anything at all gives messages, a ProtocolError, or is the beginning of a frame."""

    def mutated(self, chance: random.Random, data: bytes) -> bytes:
        """With some bytes changed, left out or added, or another length."""
        result = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            at, way = chance.randrange(len(result)), chance.randrange(8)
            if way < 4:
                result[at] ^= 1 << chance.randrange(8)
            elif way == 4:
                del result[at:at + chance.randrange(1, 9)]
            elif way == 5:
                result[at:at] = bytes(result[:chance.randrange(1, 9)])
            elif way == 6:
                result[:4] = HEADER.pack(chance.choice((0, -1, len(result), FRAME_LIMIT, FRAME_LIMIT + 1, 1 << 30)))
            else:
                result[at] = chance.choice((0, 255, 127, 128))
            if not result:
                break
        return bytes(result)

    def test_of_frames(self) -> None:
        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        stock = [framed(encode(some_message(chance, code))) for code in TABLE for _ in range(8)]
        heard = refused = 0
        with self.subTest(seed=seed):
            for number in range(FUZZ):
                if number % 8 < 6:                  # as a rule alone, else behind what may be the beginning of a frame
                    frames = Frames()
                try:
                    for frame in fed(frames, self.mutated(chance, chance.choice(stock))):
                        idles(frame, 1)
                        self.assertEqual(encode(decode(frame)), frame)
                        heard += 1
                except ProtocolError:
                    refused += 1
                self.assertLessEqual(len(frames._buffer), BUFFER)
            self.assertGreater(min(heard, refused), FUZZ // 20)

    def test_of_what_the_broker_hears(self) -> None:
        """Messages in themselves right, whatever they say and whoever says it; and deaths among them."""
        for seed in range(FUZZ // 500):
            chance = random.Random(seed)
            with self.subTest(seed=seed):
                self.tell(chance, broker.Broker())

    def tell(self, chance: random.Random, one: broker.Broker) -> None:
        codes = [code for code, (cls, _) in TABLE.items() if cls in broker.SAID and cls is not Unfit]
        events: List[broker.Event] = [broker.HostUp("h%d" % k, 2, 0.001, 0, not k) for k in range(2)]
        for step in range(100):
            if not events:
                process = chance.randrange(1, 8)
                message = some_message(chance, chance.choice(codes), chance.choice((4, 4, 1 << 64)))
                begun = (tuple(chance.randrange(4) for _ in range(3)),)
                events.append(broker.ProcessDied(process, "why", begun) if step % 25 == 24  # type: ignore[arg-type]
                              else broker.Heard(process, message))
            for action in one.handle(events.pop(0)):
                if isinstance(action, broker.Send):
                    decode(encode(action.message))
                elif isinstance(action, broker.Start):
                    events.append(broker.ProcessUp(action.process))


GARBAGE: Dict[str, bytes] = {
    "text": b"a line of a log that went astray\n",
    "zeros": bytes(100),
    "a length below 0": HEADER.pack(-5) + bytes(10),
    "a length of 2 GiB": HEADER.pack((1 << 31) - 1) + bytes(10),
    "a length just above the limit": HEADER.pack(SAID_LIMIT + 1) + bytes(SAID_LIMIT + 1),
    "an unknown message": framed(b"\xfa?"),
    "a message that is cut": framed(bytes([2, 1, 2, 3])),
    "a pull that is cut": framed(bytes([10, 1, 2, 3])),
    "a drop with bytes too many": framed(encode(Drop(1, 1)) + b"x"),
    "a message with bytes too many": framed(encode(Idle(1)) + b"x"),
    "a death that only agents tell": framed(encode(Died(1, 9))),
    "an order that only the head gives": framed(encode(Spawn(9, WORKER))),
    "a relay": framed(encode(Relay(1, encode(Idle(1))))),
}
SCRIPT = """
import os, sys, time
from microscoop import futures
GARBAGE = {garbage!r}
def channels():
    names = ((int(name), "/proc/self/fd/" + name) for name in os.listdir("/proc/self/fd"))
    return [number for number, path in names if os.path.lexists(path) and os.readlink(path).startswith("socket:")]
def once(name):
    try:
        os.close(os.open(sys.argv[1] + name, os.O_CREAT | os.O_EXCL))
        return True
    except FileExistsError:
        return False
def spoil(data):
    (channel,) = channels()
    while data:
        data = data[os.write(channel, data):]
    time.sleep(30)
def task(k):
    if 10 <= k < 10 + len(GARBAGE) and once(str(k)):
        spoil(GARBAGE[k - 10])
    time.sleep(0.001)
    return k
"""


@unittest.skipUnless(os.path.exists("/proc/self/fd"), "needs /proc")
class Runs(LaunchCase):
    """A process that writes anything to the descriptor of its channel."""

    SAID = "it has written to the descriptor that leads to its launcher: "

    def go(self, text: str, *options: str, mark: str = "mark", **garbage: bytes) -> harness.Result:
        script = self.program("spoil.py", SCRIPT.format(garbage=list((garbage or GARBAGE).values())) + text)
        return harness.run("-q", "--ssh-executable", self.ssh, *options, script, self.base / mark, timeout=30)

    def lines(self, result: harness.Result) -> List[str]:
        """What is said of processes that were ended; the reason alone."""
        lines = [line for line in result.err.splitlines() if self.SAID in line]
        self.assertEqual(len(result.err.splitlines()), len(lines), result.err)
        return lines

    def test_is_ended_and_its_items_run_elsewhere_on_any_host(self) -> None:
        places = {"127.0.0.1": ("-n", "3"), "h2": ("-n", "3", "--host", "h2")}
        results = harness.at_once(lambda name: self.go("""
if __name__ == "__main__":
    print(list(futures.map(task, range(40))) == list(range(40)))
""", *places[name], mark=name), places)
        for name, result in zip(places, results):
            with self.subTest(name):
                self.assertEqual((result.status, result.out), (0, "True\n"), result.err)
                lines = self.lines(result)
                self.assertEqual(len(lines), len(GARBAGE), result.err)
                for line in lines:
                    self.assertRegex(line, r"WARNING worker %s/\d+ is ended: .*: ("
                                           r"not a message|1 bytes too many|\w+ is not for)" % name)

    def test_is_why_an_item_is_lost(self) -> None:
        result = self.go("""
def always(k):
    if k == 3:
        spoil(GARBAGE[0])
    return k
if __name__ == "__main__":
    found = [futures.submit(always, k) for k in range(6)]
    print([future.result() for k, future in enumerate(found) if k != 3])
    print(found[3].exception())
""", "-n", "2", "--retries", "1", ones=b"\xff" * 10)
        first, second = result.out.splitlines()
        self.assertEqual((result.status, first), (0, "[0, 1, 2, 4, 5]"), result.err)
        self.assertIn("was ended, as it had written to the descriptor that leads to its launcher while it ran", second)
        self.assertIn("begun 2 times", second)
        self.assertEqual(len(self.lines(result)), 2)

    def test_takes_no_other_item_with_it_when_the_task_goes_on(self) -> None:
        for options in (("-n", "3"), ("-n", "3", "--host", "h2")):
            result = self.go("""
def always(k):
    if k == 17:
        os.write(*channels(), GARBAGE[0])
    return k
if __name__ == "__main__":
    found = [futures.submit(always, k) for k in range(40)]
    print([k for k, future in enumerate(found) if future.exception() is not None])
""", *options, "--retries", "1", ones=b"\xff" * 10)
            self.assertEqual((result.status, result.out), (0, "[17]\n"), result.err)

    def test_is_not_waited_for_when_it_could_be_the_beginning_of_a_message(self) -> None:
        result = self.go("""
def begin(k):
    if k in (3, 9) and once(str(k)):
        os.write(*channels(), GARBAGE[0])
    return k
if __name__ == "__main__":
    print(list(futures.map(begin, range(12))))
""", "-n", "1", length=HEADER.pack(100_000))
        self.assertEqual((result.status, result.out), (0, str(list(range(12))) + "\n"), result.err)
        self.assertIn(len(self.lines(result)), (1, 2))     # one worker may come to both items before it is found out

    def test_right_before_it_ends_by_itself_hurts_nobody(self) -> None:
        result = self.go("""
def last(k):
    if k in (3, 9) and once(str(k)):
        os.write(*channels(), b"garbage" * 5000)
        os._exit(0)
    return k
if __name__ == "__main__":
    print(list(futures.map(last, range(12))))
""", "-n", "3")
        self.assertEqual((result.status, result.out), (0, str(list(range(12))) + "\n"), result.err)

    def test_that_is_the_origin_ends_the_run_in_words(self) -> None:
        result = self.go("""
if __name__ == "__main__":
    futures.submit(abs, 1).result()
    spoil(b"garbage")
""", "-n", "2")
        self.assertNotEqual(result.status, 0)
        self.assertRegex(result.err, "WARNING the origin is ended: .*\n.*ERROR +the origin was ended, as it had ")
        self.assertNotIn("Traceback", result.err)

    def test_that_is_closed_by_a_task_costs_that_worker_alone(self) -> None:
        result = self.go("""
def close(k):
    if k == 3 and once("close"):
        os.closerange(3, 100)
        time.sleep(30)
    return k
if __name__ == "__main__":
    print(list(futures.map(close, range(12))))
""", "-n", "2")
        self.assertEqual((result.status, result.out), (0, str(list(range(12))) + "\n"), result.err)

    def test_a_long_text_of_a_script_that_does_not_load_is_no_garbage(self) -> None:
        results = harness.at_once(lambda options: self.go("""
if __name__ != "__main__":
    raise ValueError("why" + " " * 2000000)
print(repr(futures.submit(abs, 1)))
""", "-n", "2", *options), ((), ("--host", "h2")))
        for result in results:
            self.assertNotEqual(result.status, 0)
            self.assertRegex(result.err, " is left out: ValueError: why *\n")
            self.assertNotIn(self.SAID, result.err)

    def test_a_line_of_output_without_an_end_is_no_garbage(self) -> None:
        results = harness.at_once(lambda options: self.go("""
def flood(k):
    sys.stdout.write("x" * 3000000)
    return k
if __name__ == "__main__":
    found = list(futures.map(flood, range(3)))
    print(found)
""", "-n", "2", *options), ((), ("--host", "h2")))
        for result in results:
            self.assertEqual((result.status, result.out.count("x"), result.err), (0, 9000000, ""))
            self.assertEqual(result.out.replace("x", ""), "[0, 1, 2]\n")


if __name__ == "__main__":
    unittest.main()
