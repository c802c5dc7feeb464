"""HTTP/1.1 (RFC 9112) as it should not be sent."""

from __future__ import annotations

import gzip
from functools import cache
from random import Random

from mutations import damaged

_METHODS = ("GET", "POST", "POST", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "PRI", "get",
            "G\0T", "", "A" * 30, "PO ST", "\xff\xfe")  # fmt: skip
_TARGETS = ("/ping", "/invocations", "/invocations", "/invocations", "/execution-parameters", "/info", "/metrics", "/",
            "//ping", "/ping/", "/%00", "/%ff%fe", "/invocations?a=%zz&b=\xff", "/../../etc/passwd", "*", "",
            "http://a/ping", "http://[::1/ping", "http://a:99999/ping", "a:80", "/ping#a", "/" + "a" * 9000, "/\r\n",
            "/ping HTTP/1.1 x", "/%" * 50, "/\0", "/page/page.js", "/docs", "/page/../app.py", "/page/%2e%2e/app.py",
            "/page/..%2f..%2fapp.py", "/page//etc/passwd", "/page/page.js%00", "/page/__init__.py")  # fmt: skip
_VERSIONS = ("HTTP/1.1",) * 12 + ("HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.10", "http/1.1", "HTTP/", "", "HTTP/1.1 ")
_HOSTS = (
    "a",
    "a",
    "a",
    "",
    "a:b",
    "a:99999",
    "[::1]",
    "[::",
    "a b",
    "\xff",
    "a,b",
    "xn--a",
    "a" * 300,
    "a/b",
    "@",
    "..",
)
_NUMBERS = ("-1", "+1", "0", "00", " 1", "1 1", "1,1", "0x10", "1e3", "\xb2", "9" * 19, "9" * 40, "9" * 5000, "", "a",
            "1_0", "18446744073709551616", "1.0", "\t3")  # fmt: skip
_CODINGS = ("chunked", "chunked", "Chunked", "chunked, chunked", "identity", "gzip, chunked", "chunked, gzip",
            "xchunked", "\x0bchunked", "chunked;q=1", "", "gzip", "identity, chunked", "br")  # fmt: skip
_ACCEPTS = ("image/png", "*/*", "", "text/html", "image/*;q=0.1, */*;q=0", ",,,,", ";q=1", "image/png;q=nan",
            "image/png;q=-1", "image/png;q=1e999", "image/png;q=\xb2", "*/png", "image/*/*", "a/b," * 1500,
            "image/png;" * 700, "image/png;q=" + "9" * 5000,
            "\xff/\xfe", "/", "image/png\t", "q=1;image/png", '"image/png"', 'image/png;palette="voc, */*',
            'image/png;a="\\', "image/png;palette=none, */*", "application/json;charset=utf-8", "*;q=.2",
            "image/png;overlay=0.1," * 350, ";" * 8000, '"' * 8000, "image/png;q=1;q=1")  # fmt: skip
_TYPES = ("image/jpeg", "image/png", "application/x-image", "", "text/csv", "multipart/form-data; boundary=",
          "multipart/form-data; boundary=" + "a" * 5000, "image/png; charset=\xff", ";",
          "application/json; charset=utf-7",
          "application/x-www-form-urlencoded", "IMAGE/PNG;" * 300, "image/png\t;", "\xe9")  # fmt: skip
_CONTENT_CODINGS = ("gzip", "gzip", "x-gzip", "identity", "", ",", "br", "deflate", "gzip, gzip", "gzip;q=1", "\xff",
                    "gzip," * 1500)  # fmt: skip
_ACCEPTED_CODINGS = ("gzip", "*", "gzip;q=0", "gzip," * 1500, '"', 'a;b="\\', "a;b*0=c;b*1=d," * 500)
_ATTRIBUTES = ("a", "a=b; c=d", "\xe9\xff\x80", "a\tb", "a" * 2000, "\x7f", "a\0b", "a\rb", "a\nb", "\x1b[31m", " ", "")
_CHUNK_SIZES = (
    "0x5",
    "-5",
    "+5",
    "",
    " 5",
    "5 ",
    "g",
    "5" * 17,
    "5" * 9000,
    "FFFFFFFFFFFFFFFF",
    "80000000",
    "5_5",
    "\xb2",
)
_EXTENSIONS = (";a", ";a=b", ';a="b;c"', ";", ";=", ";a=\xff", ";a\r", ";" + "a" * 9000, " ;a", ";a=b" * 200)
_TRAILERS = ("a: b", "Content-Length: 5", "Transfer-Encoding: chunked", "a b: c", " a: b", ": a", "a", "a: \0",
             "a" * 9000, "a: b\r\n" * 200 + "c: d", "\xff: a", "Host: b", "a: b\n", "X_Y: 1")  # fmt: skip
_LINE_ENDS = ("\r\n",) * 30 + ("\n", "\r", "\n\r", "\r\r\n", "\0\r\n", "\x0b")


def hostile_message(random: Random, image: bytes) -> bytes:
    """What a client may send on a connection: one request or several, none quite right; `image`: as its body."""
    message = b"".join(_request(random, image) for _ in range(random.choice((1, 1, 1, 2, 5))))
    kind = random.random()
    if kind < 0.15:
        return damaged(random, message)
    if kind < 0.2:
        return message[: random.randrange(len(message))]
    return message if kind < 0.99 else random.randbytes(random.choice((1, 100, 10_000)))


def _request(random: Random, image: bytes) -> bytes:
    """One request with about one thing wrong."""
    odd = random.choice(("line", "host", "headers", "flood", "length", "coding", "chunks", "trailers", "media",
                         "attributes", "ends", "expect", "upgrade", "codings", "form"))  # fmt: skip
    line = ["POST", "/invocations", "HTTP/1.1"]
    if odd == "line":
        place = random.randrange(3)
        line[place] = random.choice((_METHODS, _TARGETS, _VERSIONS)[place])
        if place == 1 and random.random() < 0.5:
            line[0] = "GET"
    headers = [f"Host: {random.choice(_HOSTS) if odd == 'host' else 'localhost'}"]
    headers += {
        "headers": _odd_headers,
        "flood": _flood,
        "media": _media,
        "attributes": _attributes,
        "expect": _expectations,
        "upgrade": _upgrades,
        "codings": _codings,
        "form": _form_type,
    }.get(odd, _media)(random)
    framing, body = _body(random, odd, image)
    head = [" ".join(line), *headers, *framing]
    if odd == "ends":
        random.shuffle(head)
    ends = [random.choice(_LINE_ENDS) if odd == "ends" else "\r\n" for _ in range(len(head) + 1)]
    return "".join(a + b for a, b in zip([*head, ""], ends, strict=True)).encode("latin-1") + body


def _odd_headers(random: Random) -> list[str]:
    name, value = random.choice(("a", "", " ", "a b", "a:", "\xff", "a\0", "A" * 9000, "a_b", "Host", "(", "a\t")), "b"
    return [random.choice((f"{name}: {value}", f"{name} : {value}", f"{name}:{value}\r\n folded", f"{name}",
                           f" {name}: a", f"{name}: \0", f"{name}: a\rb", f"{name}: {'b' * 9000}",
                           f"{name}: a\nb: c"))]  # fmt: skip


def _flood(random: Random) -> list[str]:
    return [
        f"{random.choice(('a', f'a{n}'))}: {'b' * random.choice((1, 5000))}" for n in range(random.choice((90, 300)))
    ]


def _media(random: Random) -> list[str]:
    accept = [f"Accept: {random.choice(_ACCEPTS)}"] * random.choice((1, 1, 1, 8))
    return [*accept, f"Content-Type: {random.choice(_TYPES)}"][: random.randrange(len(accept) + 2)]


def _codings(random: Random) -> list[str]:
    """Content codings; a body that is declared as gzip may be it."""
    accepted = random.choice(_ACCEPTED_CODINGS)
    return [f"Content-Encoding: {random.choice(_CONTENT_CODINGS)}", f"Accept-Encoding: {accepted}"]


def _form_type(random: Random) -> list[str]:
    boundary = random.choice(("b", "b", "b", "b", '"b"', "c", "b" * 70, "b" * 71, "\xff", '"', "b;boundary=c", ""))
    return [f"Content-Type: multipart/form-data; boundary={boundary}"]


def _attributes(random: Random) -> list[str]:
    names = ("X-Amzn-SageMaker-Custom-Attributes", "X-Amzn-SageMaker-Inference-Id")
    return [f"{random.choice(names)}: {random.choice(_ATTRIBUTES)}" for _ in range(random.choice((1, 1, 3)))]


def _expectations(random: Random) -> list[str]:
    return [f"Expect: {random.choice(('100-continue', '100-CONTINUE', '200-ok', '', '100-continue, a'))}"]


def _upgrades(random: Random) -> list[str]:
    return [f"Connection: {random.choice(('Upgrade, HTTP2-Settings', 'keep-alive, close', 'Upgrade', ',', 'Host'))}",
            f"Upgrade: {random.choice(('h2c', 'websocket', 'TLS/1.0', ''))}", "HTTP2-Settings: AAMA"]  # fmt: skip


def _body(random: Random, odd: str, image: bytes) -> tuple[list[str], bytes]:
    """The headers that say how long a body is, and the body."""
    body = random.choice((b"", b"no image", image, bytes(3000)))
    if odd == "form":
        body = hostile_form(random, body)
    if odd == "codings":
        body = random.choice((body, _packed(random, body)))
    length = f"Content-Length: {len(body)}"
    if odd == "length":
        wrong = f"Content-Length: {random.choice((*_NUMBERS, str(len(body) + 1), str(max(0, len(body) - 1))))}"
        return random.choice(([wrong], [wrong, length], [length, length], [length, wrong], [])), body
    chunked = _chunked(random, odd, body)
    if odd == "coding":
        coding = f"Transfer-Encoding: {random.choice(_CODINGS)}"
        return random.choice(([coding], [coding, length], [length, coding], [coding, coding])), random.choice(
            (body, chunked)
        )
    if odd in ("chunks", "trailers") or random.random() < 0.2:
        return ["Transfer-Encoding: chunked"], chunked
    return [length], body


def hostile_form(random: Random, content: bytes) -> bytes:
    """A form whose boundary is `b`, with the content as its file, and mostly with something wrong."""
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
    part, field = head + b"\r\n" + content, b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n'
    odd = random.choice((b"a:\n" * 5000, b";a*0=b" * 3000, b'"' * 20_000, b"\r\n--b ", b"--b--", b"\xff", b"\0", field))
    whole = part + b"\r\n--b--\r\n"
    place = random.randrange(len(whole))
    return random.choice(
        (
            whole,
            whole,
            part + b"\r\n" + field + b"--b--\r\n",
            part + b"\r\n" + part + b"\r\n--b--\r\n",
            field + b"--b--",
            b"--b--",
            head + b"Content-Transfer-Encoding: base64\r\n\r\n" + content + b"\r\n--b--",
            whole[:place],
            whole[:place] + odd + whole[place:],
            head + odd + b"\r\n\r\n" + content + b"\r\n--b--",
            odd * 20 + whole,
            whole + odd * 20,
            damaged(random, whole),
        )
    )


def _packed(random: Random, body: bytes) -> bytes:
    """The body in gzip, or what only begins so."""
    packed = random.choice((gzip.compress(body, 1, mtime=0), _bomb()))
    return random.choice((packed, packed, packed + packed, packed + b"more", packed * 50, damaged(random, packed)))


@cache
def _bomb() -> bytes:
    """Four kilobytes of gzip for four megabytes."""
    return gzip.compress(bytes(4 << 20), mtime=0)


def _chunked(random: Random, odd: str, body: bytes) -> bytes:
    step = random.choice((1 + len(body) // 40, 100, 5000))
    chunks = [body[start : start + step] for start in range(0, len(body), step)]
    wrong = random.randrange(len(chunks) + 1) if odd == "chunks" else -1
    parts: list[bytes] = []
    for number, chunk in enumerate([*chunks, b""]):
        size, extension, end = f"{len(chunk):x}", "", b"\r\n"
        if number == wrong:
            match random.randrange(4):
                case 0:
                    size = random.choice((*_CHUNK_SIZES, f"{len(chunk) + 1:x}", f"{max(0, len(chunk) - 1):x}"))
                case 1:
                    extension = random.choice(_EXTENSIONS)
                case 2:
                    end = random.choice((b"", b"\n", b"\r", b"xx", b"\r\n\r\n"))
                case _:
                    return b"".join(parts)
        trailer = random.choice(_TRAILERS).encode("latin-1") + b"\r\n" if odd == "trailers" and not chunk else b""
        parts.append(f"{size}{extension}\r\n".encode("latin-1") + chunk + trailer + end)
    return b"".join(parts)
