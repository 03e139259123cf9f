"""Logs, metrics and traces: what they say, and what they keep to themselves."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from keyfence_server.adapters.keyspace_files.reading import read_keyspace_file
from keyfence_server.domain.keyspaces import compile_keyspace
from keyfence_server.domain.system import SYSTEM_KEYSPACE
from keyfence_server.rpc.stats import MAX_COUNTED_KEYSPACES, OTHER_KEYSPACES, VerdictStats
from keyfence_server.rpc.tracing import SpanPerCall
from keyfence_server.telemetry.log_limit import LINES_PER_SECOND, LogLimits
from keyfence_server.telemetry.logs import LogFormat, configure_logs, log_uncaught_in
from keyfence_server.telemetry.redaction import redact_text
from keyfence_server.telemetry.tracing import configure_tracing
from support.serving import Served, read_metrics, until

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "keyspaces").glob("*.yaml"))
DECLARED = [compile_keyspace(read_keyspace_file(path).declaration) for path in EXAMPLES]
FORMS = [form for one in (*DECLARED, SYSTEM_KEYSPACE) for form in one.forms.values()]


class TestRedaction:
    @given(
        form=st.sampled_from(FORMS),
        before=st.sampled_from(["", " ", '"', "key=", "(", "/", "→"]),
        after=st.sampled_from(["", " ", '"', ",", ")", "/", "\n"]),
    )
    def test_a_key_of_any_system_is_hidden(self, form: Any, before: str, after: str) -> None:
        key = form.mint().reveal()
        assert redact_text(before + key + after) == f"{before}[redacted]{after}"

    @pytest.mark.parametrize(
        "key",
        [
            "kf_live_TqWmXcVObNpLwZtRyKfUoEaGsDjBkTqh",
            "acme-live-qmwnebrvtcyxuziapsodlfkg",
            "ACMEQMWNEBRVTCYXUZIAPSODLFKGHJ",
            "n_314159265358979323846264338327950288419",
            "kf_live_bananatomatoelevatorabanana",
            "kf_live_7Hq2mXcV0bN4pLw9Z",
        ],
    )
    def test_a_key_of_letters_of_digits_or_cut_off_is_hidden(self, key: str) -> None:
        assert redact_text(f"no {key}.") == "no [redacted]."

    @pytest.mark.parametrize(
        "text",
        [
            "key_01jd2k7v9x4m8r5t6w3y1z0abc",
            "ses_01jd2k7v9x4m8r5t6w3y1z0abc",
            "01JD2K7V9X4M8R5T6W3Y1Z0ABC",
            "customer-portal-production-eu1",
            "KEYFENCE_MAX_CONNECTION_AGE_GRACE_SECONDS",
            "AuthorizationServiceServicer",
            "evt_01jd2k7v9x4m8r5t6w3y1z0abc",
            "srv_5f1c0a4b5f1c0a4b5f1c0a4b5f1c0a4b",
            "sdc_5f1c0a4b5f1c0a4b5f1c0a4b5f1c0a4b",
            "asyncpg.exceptions.ConnectionDoesNotExistError",
            "1764417600000000000",
            "5f1c0a4b5f1c0a4b5f1c0a4b5f1c0a4b",
            "123e4567-e89b-12d3-a456-426614174000",
            "a_function_with_a_rather_long_name",
            "127.0.0.1:50051",
            "/keyfence.v1.AuthorizationService/BatchCheckScope",
        ],
    )
    def test_what_a_log_is_read_for_stays(self, text: str) -> None:
        assert redact_text(text) == text

    @pytest.mark.parametrize(
        ("text", "redacted"),
        [
            ("authorization: Bearer abc", "authorization: Bearer [redacted]"),
            ("basic dXNlcjpwYXNz", "basic [redacted]"),
            ("postgresql://me:pw@host/db", "postgresql://me:[redacted]@host/db"),
        ],
    )
    def test_short_secrets_are_known_by_their_surroundings(self, text: str, redacted: str) -> None:
        assert redact_text(text) == redacted

    @pytest.mark.parametrize("form", ["json", "console"])
    def test_every_line_goes_through_it(self, form: LogFormat) -> None:
        """Fields, nested ones, exceptions, and what libraries say."""
        key = "kf_live_7Hq2mXcV0bN4pLw9ZtR1yKfUoEaGsDjB0Zk3Tq"
        stream = io.StringIO()
        configure_logs(form, "debug", stream)
        log = structlog.get_logger("tests")

        def fail(secret: str) -> None:
            raise ValueError(f"cannot {secret}")

        try:
            fail(key)
        except ValueError:
            log.exception(
                "failed", api_key="short", nested={"token": "t0p", "list": [key, {key: key}]}
            )
        logging.getLogger("some.library").error("sent %s", key.encode(), stack_info=True)
        log.info(key, object=SimpleReprOf(key))
        structlog.reset_defaults()
        text = stream.getvalue()
        assert key not in text
        assert "t0p" not in text
        assert "short" not in text
        assert "Bearer" not in text
        assert text.count("[redacted]") >= 6

    def test_an_uncaught_exception_is_logged_without_its_variables(self) -> None:
        stream = io.StringIO()
        previous = sys.excepthook
        configure_logs("json", "info", stream)
        canary = "canary in a variable"
        try:
            raise RuntimeError("in the middle of " + canary[:3])
        except RuntimeError as error:
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            sys.excepthook = previous
            structlog.reset_defaults()
        line = json.loads(stream.getvalue())
        assert line["event"] == "uncaught"
        assert canary not in stream.getvalue()
        assert line["exception"][0]["frames"][0]["name"] == (
            "test_an_uncaught_exception_is_logged_without_its_variables"
        )

    async def test_what_a_task_did_not_catch_is_logged_without_its_arguments(
        self, log: io.StringIO
    ) -> None:
        loop = asyncio.get_running_loop()
        log_uncaught_in(loop)

        async def fail(argument: str) -> None:
            raise RuntimeError("lost")

        canary = "canary in an argument"
        loop.call_exception_handler(
            {"message": "m", "exception": RuntimeError("lost"), "x": canary}
        )
        loop.set_exception_handler(None)
        assert "lost" in log.getvalue()
        assert canary not in log.getvalue()


class SimpleReprOf:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return f"<{self._text}>"


class TestLogs:
    async def test_a_check_that_succeeds_is_not_logged(
        self, served: Served, log: io.StringIO
    ) -> None:
        key = await served.client.make_key()
        before = log.getvalue()
        await served.client.call("Authenticate", api_key=key.api_key)
        await served.client.call("WhoAmI")
        assert log.getvalue() == before

    async def test_a_mutation_is_logged_with_its_caller_and_its_subject(
        self, served: Served, log: io.StringIO
    ) -> None:
        sent = [("x-request-id", "req-7")]
        await served.client.call("CreateKey", keyspace="demo", account_id="a", metadata=sent)
        me = await served.client.call("WhoAmI")
        line = json.loads(log.getvalue().splitlines()[-1])
        assert line["method"] == "/keyfence.v1.KeyService/CreateKey"
        assert line["request_id"] == "req-7"
        assert line["caller_key_id"] == me.principal.key_id

    async def test_why_a_credential_was_rejected_is_in_the_log_alone(
        self, served: Served, log: io.StringIO
    ) -> None:
        refusal = await served.client.refusal("WhoAmI", credential="x")
        line = json.loads(log.getvalue().splitlines()[-1])
        assert line["cause"] == "CREDENTIAL_MALFORMED"
        assert line["request_id"] == refusal.request_id
        assert "MALFORMED" not in str(refusal)

    @pytest.mark.parametrize(
        ("rpc", "fields", "reason"),
        [
            ("GetKey", {"key_id": "key_canary"}, "KEY_NOT_FOUND"),
            ("CreateKey", {"keyspace": "canary", "account_id": "a"}, "KEYSPACE_NOT_FOUND"),
            ("CreateKey", {"keyspace": "demo", "account_id": "canary!"}, "INVALID_FIELD"),
            ("CreateKey", {"keyspace": "system", "account_id": "canary"}, "SCOPE_REQUIRED"),
        ],
    )
    async def test_a_refused_call_is_logged_with_its_caller_and_the_reason_and_without_its_content(
        self, served: Served, log: io.StringIO, rpc: str, fields: dict[str, str], reason: str
    ) -> None:
        credential = served.client.root
        if reason == "SCOPE_REQUIRED":
            credential = await served.client.make_operator("keys:read")
        me = await served.client.call("WhoAmI", credential=credential)
        refusal = await served.client.refusal(rpc, credential=credential, **fields)
        line = json.loads(log.getvalue().splitlines()[-1])
        assert refusal.reason == line["reason"] == reason
        assert (line["event"], line["level"]) == ("call_refused", "info")
        assert line["method"].endswith(f"/{rpc}")
        assert line["request_id"] == refusal.request_id
        assert line["caller_key_id"] == me.principal.key_id
        assert "canary" not in str(line)

    async def test_refused_calls_neither_fill_the_log_nor_hide_rejected_credentials(
        self, served: Served, log: io.StringIO
    ) -> None:
        calls = [served.client.refusal("GetKey", key_id=f"key_{n}") for n in range(300)]
        calls.append(served.client.refusal("WhoAmI", credential="x"))
        await asyncio.gather(*calls)
        events = [json.loads(line)["event"] for line in log.getvalue().splitlines()]
        assert 0 < events.count("call_refused") < 100
        assert "credential_rejected" in events

    async def test_only_what_has_changed_something_is_logged_as_done(
        self, served: Served, log: io.StringIO
    ) -> None:
        """A dry run has not, and neither has what was so already."""
        made = await served.client.make_key()

        async def is_done(rpc: str, **fields: Any) -> bool:
            before = len(log.getvalue())
            await served.client.call(rpc, **fields)
            return '"mutation_done"' in log.getvalue()[before:]

        other = {"name": "other"}
        assert not await is_done("ApplyKeyspace", keyspace=other, validate_only=True)
        assert await is_done("ApplyKeyspace", keyspace=other)
        assert not await is_done("ApplyKeyspace", keyspace=other)
        assert await is_done("RevokeKey", key_id=made.key.key_id)
        assert not await is_done("RevokeKey", key_id=made.key.key_id)

    async def test_rejected_credentials_do_not_fill_the_log(
        self, serve: Any, log: io.StringIO
    ) -> None:
        served = await serve()
        calls = [served.client.refusal("WhoAmI", credential=f"x{n}") for n in range(300)]
        await asyncio.gather(*calls)
        lines = [line for line in log.getvalue().splitlines() if "rejected" in line]
        assert 0 < len(lines) < 100

    @pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "exception"])
    def test_no_event_of_any_logger_fills_the_log(self, log: io.StringIO, level: str) -> None:
        """One limit, where all lines pass: a new event needs nothing to be limited."""
        for number in range(500):
            for name in ("keyfence", "keyfence.anything", "keyfence.edge"):
                getattr(structlog.get_logger(name), level)(f"event_of_{name}", number=number)
            getattr(logging.getLogger("a.library"), level)("line %d", number)
        lines = log.getvalue().splitlines()
        # In as many seconds as this has taken, at most four on a very slow machine.
        assert 4 * LINES_PER_SECOND <= len(lines) <= 4 * 5 * (LINES_PER_SECOND + 1)

    def test_what_is_left_out_is_counted(self, log: io.StringIO) -> None:
        now = 1.0
        limits = LogLimits(lines_per_second=2, clock=lambda: now)
        assert [limits.admits("one") for _ in range(5)] == [True, True, False, False, False]
        assert limits.admits("another")
        now = 2.0
        assert limits.admits("one")
        line = json.loads(log.getvalue())
        assert (line["of"], line["lines"]) == ("one", 3)


class Metrics:
    """The metrics of a server, by name and labels."""

    def __init__(self, served: Served) -> None:
        self.text = read_metrics(served)
        self._values = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
        }

    def __getitem__(self, name: str) -> float:
        return self.of(name)

    def of(self, name: str, **labels: str) -> float:
        return self._values.get((name, tuple(sorted(labels.items()))), 0)


class TestMetrics:
    async def test_they_say_what_happened(self, serve: Any) -> None:
        served = await serve(metrics_listen="127.0.0.1:0")
        client = served.client
        await client.apply()
        key = await client.make_key(scopes=["vps:read"])
        for _ in range(3):
            await client.call("CheckScope", api_key=key.api_key, required_scopes=["vps:read"])
        await client.call("CheckScope", api_key=key.api_key, required_scopes=["vps:write"])
        await client.call("Authenticate", api_key="nonsense")
        await client.refusal("GetKey", key_id="key_0")
        # A client has its answer a moment before the call has left the server.
        await until(lambda: served.server._gate.under_way == 0)
        metrics = Metrics(served)
        verdict = "keyfence_verdicts_total"
        assert metrics.of(verdict, keyspace="demo", reason="OK") == 3
        assert metrics.of(verdict, keyspace="demo", reason="SCOPE_MISSING") == 1
        assert metrics.of(verdict, keyspace="", reason="CREDENTIAL_MALFORMED") == 1
        method = "/keyfence.v1.AuthorizationService/CheckScope"
        assert metrics.of("keyfence_rpc_seconds_count", method=method, code="OK") == 4
        assert metrics.of("keyfence_rpc_seconds_bucket", method=method, code="OK", le="+Inf") == 4
        assert metrics.of("keyfence_rpc_seconds_sum", method=method, code="OK") > 0
        get_key = "/keyfence.v1.KeyService/GetKey"
        assert metrics.of("keyfence_rpc_seconds_count", method=get_key, code="NOT_FOUND") == 1
        assert metrics["keyfence_revision"] == 3
        assert metrics["keyfence_serving"] == 1
        assert metrics["keyfence_calls_under_way"] == 0
        assert metrics["keyfence_cache_keys"] == 2
        assert metrics["keyfence_cache_hits_total"] > 5
        assert metrics["keyfence_cache_store_loads_total"] >= 2
        assert metrics.of("keyfence_store_seconds_count", operation="transaction") == 3
        assert metrics["keyfence_store_in_use"] == 0
        assert metrics["keyfence_store_unavailable_total"] == 0

    async def test_a_hot_check_asks_the_store_nothing(self, serve: Any) -> None:
        served = await serve(metrics_listen="127.0.0.1:0")
        await served.client.apply()
        key = await served.client.make_key(scopes=["vps:read"])
        check = {"api_key": key.api_key, "required_scopes": ["vps:read"], "keyspace": "demo"}
        await served.client.call("CheckScope", **check)
        before = Metrics(served)
        for _ in range(20):
            assert (await served.client.call("CheckScope", **check)).allowed
        after = Metrics(served)
        for operation in ("snapshot", "transaction"):
            name = "keyfence_store_seconds_count"
            assert after.of(name, operation=operation) == before.of(name, operation=operation)

    async def test_nothing_that_a_caller_says_becomes_a_label(self, serve: Any) -> None:
        served = await serve(metrics_listen="127.0.0.1:0")
        await served.client.apply()
        for name in ("CheckScope", "Authenticate", "GetKeyspace"):
            fields = {"name": "canary"} if name == "GetKeyspace" else {"keyspace": "canary"}
            await served.client.refusal(name, **fields)
        with pytest.raises(grpc.aio.AioRpcError):
            await served.client.call_raw("/canary.Service/Canary", b"")
        assert "canary" not in Metrics(served).text

    def test_keyspaces_as_labels_are_bounded(self) -> None:
        verdicts = VerdictStats()
        for number in range(MAX_COUNTED_KEYSPACES + 500):
            verdicts.add(f"keyspace-{number}", 1)
        assert len(verdicts.counts) == MAX_COUNTED_KEYSPACES + 1
        assert verdicts.counts[OTHER_KEYSPACES, 1] == 500

    async def test_a_port_that_is_taken_is_said(self, served: Served, serve: Any) -> None:
        with pytest.raises(Exception, match="KEYFENCE_METRICS_LISTEN"):
            await serve(
                metrics_listen=f"127.0.0.1:{served.port}", data_dir=served.data_dir.parent / "b"
            )


class TestTraces:
    async def test_a_call_is_a_span_under_its_caller_s(self, serve: Any) -> None:
        spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        served = await serve(tracing=SpanPerCall(provider.get_tracer("tests")))
        trace_id = "0af7651916cd43dd8448eb211c80319c"
        sent = [("traceparent", f"00-{trace_id}-b7ad6b7169203331-01")]
        await served.client.call("WhoAmI", metadata=sent)
        await served.client.refusal("GetKey", key_id="key_0")
        await served.client.refusal("WhoAmI", credential=None)
        # An answer is with the client a moment before its span ends.
        async with asyncio.timeout(20):
            while len(spans.get_finished_spans()) < 3:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)
        first, second, third = spans.get_finished_spans()
        assert first.name == "keyfence.v1.AuthorizationService/WhoAmI"
        assert f"{first.context.trace_id:032x}" == trace_id
        assert dict(first.attributes or {}) == {
            "rpc.system": "grpc",
            "rpc.service": "keyfence.v1.AuthorizationService",
            "rpc.method": "WhoAmI",
            "rpc.grpc.status_code": 0,
        }
        codes = [dict(span.attributes or {})["rpc.grpc.status_code"] for span in (second, third)]
        assert codes == [
            grpc.StatusCode.NOT_FOUND.value[0],
            grpc.StatusCode.UNAUTHENTICATED.value[0],
        ]
        assert not second.events
        assert f"{second.context.trace_id:032x}" != trace_id

    @pytest.mark.parametrize(
        "variables",
        [
            {},
            {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
        ],
    )
    def test_no_call_is_traced_unless_it_is_set_up(self, variables: dict[str, str]) -> None:
        assert configure_tracing(variables).calls is None

    def test_calls_are_traced_if_it_is_set_up(self) -> None:
        traces = configure_tracing({"OTEL_TRACES_EXPORTER": "otlp"})
        assert traces.calls is not None
        traces.close()

    def test_without_the_sdk_nothing_breaks(
        self, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
    ) -> None:
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
        traces = configure_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
        assert traces.calls is None
        assert "keyfence-server[otel]" in log.getvalue()
