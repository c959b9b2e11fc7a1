"""CPU of decoding one webhook, beside the plainest thing that reads the same bytes.

    python -m bench.decode

Prints microseconds per call, the best of several repeats, as one line of JSON. Values that are
cached (times, prices, countries) are warm, as they are under steady traffic.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from urllib.parse import parse_qsl

import msgspec

from schemas.codec import encode
from schemas.events import Arrival
from schemas.vonage.messages import decode_status
from schemas.vonage.sms import FORM, decode_receipt

STATUS = (
    b'{"message_uuid":"aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab","to":"447700900000",'
    b'"from":"447700900001","timestamp":"2025-02-03T12:14:25Z","status":"submitted",%b'
    b'"client_ref":"abc123","usage":{"currency":"EUR","price":"0.0333"},"channel":"sms",'
    b'"destination":{"network_code":"12345"},"sms":{"count_total":"2"}}'
)
ERROR = (
    b'"error":{"type":"https://developer.vonage.com/api-errors/messages#1000","title":"1000",'
    b'"detail":"Throttled","instance":"bf0ca0bf927b3b52e3cb03217e1a1ddf"},'
)
RECEIPT = (
    b"msisdn=447700900000&to=AcmeInc&network-code=12345&messageId=0A0000001234567B"
    b"&price=0.03330000&status=delivered&scts=2001011400&err-code=0&api-key=abcd1234"
    b"&message-timestamp=2020-01-01+12%3A00%3A00"
)
ARRIVAL = Arrival(1_790_000_000_000_000)


def best_us(call: Callable[[], object], number: int = 20_000, repeats: int = 7) -> float:
    return round(min(timeit.repeat(call, number=number, repeat=repeats)) / number * 1e6, 2)


def main() -> None:
    plain, failed, text = STATUS % b"", STATUS % ERROR, RECEIPT.decode()
    to_dict = msgspec.json.Decoder().decode
    results = {
        "v1 status": best_us(lambda: decode_status(plain, ARRIVAL)),
        "v1 status with an error": best_us(lambda: decode_status(failed, ARRIVAL)),
        "msgspec to a dict (reference)": best_us(lambda: to_dict(plain)),
        "form receipt": best_us(lambda: decode_receipt(RECEIPT, FORM, ARRIVAL)),
        "urllib parse_qsl (reference)": best_us(lambda: parse_qsl(text)),
    }
    print(encode(results).decode())


if __name__ == "__main__":
    main()
