"""How keys look: minting and recognising, checksums, entropy and what is shown."""

from __future__ import annotations

import math
import string
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.declarations import (
    KEY_CHARACTERS,
    alphabets,
    declarations,
    enough_length,
    prefixes_of,
)
from domain.graphs import brief
from keyfence_server.domain import formats
from keyfence_server.domain.declarations import (
    DEFAULT_FORMAT,
    BodyDeclaration,
    EnvironmentDeclaration,
    FormatDeclaration,
    KeyspaceDeclaration,
    KeyTypeDeclaration,
)
from keyfence_server.domain.errors import InvalidDeclaration
from keyfence_server.domain.formats import (
    ALPHABETS,
    CHECKSUM_LENGTH,
    MAX_BODY_LENGTH,
    MAX_KEY_LENGTH,
    MAX_PREFIX_LENGTH,
    MINIMUM_ENTROPY_BITS,
    Recogniser,
    checksum,
    compile_form,
)
from keyfence_server.domain.keyspaces import (
    compile_keyspace,
    formats_to_remember,
    forms_to_drop,
    with_history,
)
from keyfence_server.domain.redaction import ID_PREFIXES

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
DEFAULT_FORM = compile_form(
    DEFAULT_FORMAT, key_type="secret", type_marker="secret", environment_marker="live"
)


def with_format(**fields: Any) -> KeyspaceDeclaration:
    body = {name: fields.pop(name) for name in ("alphabet", "length", "shown") if name in fields}
    declared = replace(DEFAULT_FORMAT, **fields, body=replace(DEFAULT_FORMAT.body, **body))
    return KeyspaceDeclaration(name="acme", format=declared)


def problems_of(declaration: KeyspaceDeclaration) -> dict[str, str]:
    with pytest.raises(InvalidDeclaration) as caught:
        compile_keyspace(declaration)
    return {problem.where: problem.message for problem in caught.value.problems}


def test_a_key_of_two_parts_is_recognised_and_shows_its_first_part() -> None:
    keyspace = compile_keyspace(with_format(template="{lookup}.{body}", shown=2))
    [form] = keyspace.recognised_forms
    plaintext = form.mint()
    text = plaintext.reveal()
    recogniser = Recogniser({keyspace.name: keyspace.recognised_forms})
    assert recogniser.keyspaces_of(text) == {keyspace.name}
    assert form.display_prefix(plaintext) == text[: len("12345678.") + 2]
    assert keyspace.recognises(text[: len("12345678.") + 2])
    assert keyspace.recognises(form.unknown_prefix())
    assert recogniser.search(lambda _: True).finds_a_key_in(f"?key={text}&")
    assert not recogniser.search(lambda _: True).finds_a_key_in(text.replace(".", "/"))
    lookup, _, body = text.partition(".")
    for wrong in (f"{lookup[1:]}.{body}", f"{lookup}.{body}x", f"{lookup}_{body}", f".{body}"):
        assert not recogniser.keyspaces_of(wrong)
    assert compile_keyspace(
        KeyspaceDeclaration(name="acme", format=form.as_declaration())
    ).recognised_forms == {form}


def test_a_template_has_a_lookup_part_in_no_other_place() -> None:
    for template in ("a_{lookup}.{body}", "{lookup}.{body}{checksum}", "{lookup}_{body}", "{body}"):
        assert "format.template" in problems_of(with_format(template=template))


@brief
@given(declarations())
def test_what_is_minted_is_recognised_and_shows_at_most_eight_characters_of_its_body(
    declaration: KeyspaceDeclaration,
) -> None:
    keyspace = compile_keyspace(declaration)
    recogniser = Recogniser({keyspace.name: keyspace.recognised_forms, "other": ()})
    for form in keyspace.forms.values():
        plaintext = form.mint()
        text = plaintext.reveal()
        assert len(text) == form.total_length() <= MAX_KEY_LENGTH
        assert recogniser.keyspaces_of(text) == {keyspace.name}
        shown = form.display_prefix(plaintext)
        assert text.startswith(shown)
        assert len(shown) - len(form.prefix) == declaration.format.body.shown <= 8
        # Other programs write bytes in base58 with up to three characters fewer.
        may_be_shorter = form.alphabet == ALPHABETS["base58"] and not form.has_checksum
        too_short = text[:-4] if may_be_shorter else text[:-1]
        for wrong in (too_short, text + "0", text + "\n", " " + text, text[1:], text + "é", ""):
            assert wrong == text or keyspace.name not in Recogniser(
                {keyspace.name: [form]}
            ).keyspaces_of(wrong)


@brief
@given(declarations())
def test_a_key_is_the_template_with_its_markers(declaration: KeyspaceDeclaration) -> None:
    keyspace = compile_keyspace(declaration)
    form_of = declaration.format
    prefixes = prefixes_of(declaration)
    for kind in declaration.key_types:
        for place in declaration.environments:
            template = form_of.templates_by_key_type.get(kind.name, form_of.template)
            prefix = next(prefixes)
            form = keyspace.forms[kind.name, place.name]
            assert form.prefix == prefix
            assert form.has_checksum == template.endswith("{checksum}")
            body = form.mint().reveal()[len(prefix) :][: form.length]
            assert set(body) <= set(ALPHABETS.get(form_of.body.alphabet, form_of.body.alphabet))


@brief
@given(st.text(BASE62, min_size=32, max_size=32), st.data())
def test_a_single_wrong_character_is_told_by_the_checksum(body: str, data: st.DataObject) -> None:
    """Without it, every mistyped key would be asked of the store."""
    text = f"kf_live_{body}"
    key = text + checksum(text)
    recogniser = Recogniser({"acme": [DEFAULT_FORM]})
    assert recogniser.keyspaces_of(key) == {"acme"}
    place = data.draw(st.integers(0, len(key) - 1))
    other = data.draw(st.sampled_from(KEY_CHARACTERS).filter(lambda one: one != key[place]))
    assert recogniser.keyspaces_of(key[:place] + other + key[place + 1 :]) == frozenset()


def test_no_mutation_of_one_character_passes_for_a_key() -> None:
    key = DEFAULT_FORM.mint().reveal()
    recogniser = Recogniser({"acme": [DEFAULT_FORM]})
    passed = [
        (place, other)
        for place in range(len(key))
        for other in KEY_CHARACTERS
        if other != key[place] and recogniser.keyspaces_of(key[:place] + other + key[place + 1 :])
    ]
    assert passed == []


def test_the_checksum_is_the_common_crc32_in_six_base62_digits() -> None:
    """The published check value of CRC-32/ISO-HDLC, so that scanners in any language agree."""
    digits = checksum("123456789")
    assert len(digits) == 6
    number = 0
    for digit in digits:
        number = number * 62 + BASE62.index(digit)
    assert number == 0xCBF43926
    assert checksum("") == "000000"


@brief
@given(alphabets, st.integers(1, 140))
def test_less_than_128_bits_are_refused_and_the_named_length_is_enough(
    alphabet: str, length: int
) -> None:
    declaration = with_format(alphabet=alphabet, length=length, shown=0)
    bits = length * math.log2(len(ALPHABETS.get(alphabet, alphabet)))
    if bits >= MINIMUM_ENTROPY_BITS:
        compile_keyspace(declaration)
        return
    message = problems_of(declaration)["format.body.length"]
    needed = int(message.rpartition(" ")[2])
    assert needed == enough_length(alphabet)
    compile_keyspace(with_format(alphabet=alphabet, length=needed, shown=0))


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"template": ""}, "format.template"),
        ({"template": "kf_live"}, "format.template"),
        ({"template": "{body}"}, "format.template"),
        ({"template": "{type}{environment}{body}"}, "format.template"),
        ({"template": "kf_{body}{body}"}, "format.template"),
        ({"template": "kf_{checksum}{body}"}, "format.template"),
        ({"template": "kf_{body}_{checksum}"}, "format.template"),
        ({"template": "kf_{body}{checksum}{checksum}"}, "format.template"),
        ({"template": "kf_{body}_x"}, "format.template"),
        ({"template": "kf {body}"}, "format.template"),
        ({"template": "kf_{Body}"}, "format.template"),
        ({"template": "kf_{env}_{body}"}, "format.template"),
        ({"template": "kf_{}{body}"}, "format.template"),
        ({"template": "kf_{{body}}"}, "format.template"),
        ({"template": "ключ_{body}"}, "format.template"),
        ({"template": "k" * 65 + "_{body}"}, "format.template"),
        ({"template": "k_{body}"}, "format.template"),
        ({"template": "0a_{body}"}, "format.template"),
        ({"template": "{type}_{body}"}, "format.template"),
        ({"template": "acme{body}"}, "format.template"),
        ({"template": "acme_{environment}{body}"}, "format.template"),
        ({"alphabet": "0123456789abcdef-"}, "format.body.alphabet"),
        ({"alphabet": "abc_"}, "format.body.alphabet"),
        ({"alphabet": ""}, "format.body.alphabet"),
        ({"alphabet": "a"}, "format.body.alphabet"),
        ({"alphabet": "abca"}, "format.body.alphabet"),
        ({"alphabet": "ab$"}, "format.body.alphabet"),
        ({"alphabet": "äöü"}, "format.body.alphabet"),
        ({"length": 0}, "format.body.length"),
        ({"length": -1}, "format.body.length"),
        ({"length": 257}, "format.body.length"),
        ({"length": 21}, "format.body.length"),
        ({"shown": 9}, "format.body.shown"),
        ({"shown": -1}, "format.body.shown"),
        ({"templates_by_key_type": {"other": "kf_{body}"}}, "format.templates_by_key_type[other]"),
        ({"templates_by_key_type": {"secret": "{body}"}}, "format.templates_by_key_type[secret]"),
    ],
)
def test_a_format_that_cannot_work_is_refused_at_its_place(
    fields: dict[str, Any], path: str
) -> None:
    assert path in problems_of(with_format(**fields))


def test_a_prefix_that_its_markers_make_too_long_is_refused() -> None:
    """A presented key is looked at only up to a length, and every form has to fit in it."""
    declaration = KeyspaceDeclaration(
        name="acme",
        format=FormatDeclaration(
            template="kf" + "{type}" * 8 + "_{body}", body=BodyDeclaration(length=256, shown=0)
        ),
        key_types=(KeyTypeDeclaration(name="t" * 63),),
    )
    assert "at most 64 are allowed" in problems_of(declaration)["format.template"]
    assert MAX_PREFIX_LENGTH + MAX_BODY_LENGTH + CHECKSUM_LENGTH <= MAX_KEY_LENGTH


def test_a_prefix_that_ids_have_is_named_with_the_reason() -> None:
    message = problems_of(with_format(template="key_{body}"))["format.template"]
    assert 'would begin with "key_"' in message
    assert "ids are shown in logs and errors" in message


def test_more_forms_than_a_search_may_cost_are_refused() -> None:
    declaration = KeyspaceDeclaration(
        name="acme",
        format=replace(DEFAULT_FORMAT, template="xq{type}_{environment}_{body}"),
        key_types=tuple(KeyTypeDeclaration(name=f"t{number}") for number in range(100)),
        environments=tuple(EnvironmentDeclaration(name=f"e{number}") for number in range(11)),
    )
    assert "make 1100 formats of keys" in problems_of(declaration)["environments"]


def test_one_text_can_look_like_keys_of_several_keyspaces() -> None:
    recogniser = Recogniser({"one": [DEFAULT_FORM], "two": [DEFAULT_FORM, DEFAULT_FORM]})
    assert recogniser.keyspaces_of(DEFAULT_FORM.mint().reveal()) == {"one", "two"}


def test_a_prefix_that_another_one_begins_with_hides_neither() -> None:
    short = replace(DEFAULT_FORM, prefix="kf_", length=37)
    recogniser = Recogniser({"short": [short], "long": [DEFAULT_FORM]})
    assert "short" in recogniser.keyspaces_of(short.mint().reveal())
    assert "long" in recogniser.keyspaces_of(DEFAULT_FORM.mint().reveal())


@brief
@given(declarations(), declarations())
def test_what_keys_looked_like_is_remembered_until_it_is_the_format_again(
    first: KeyspaceDeclaration, second: KeyspaceDeclaration
) -> None:
    """Forgetting a format would lock out every key that was made with it."""
    before = compile_keyspace(first)
    second = replace(second, name=first.name)
    wanted = compile_keyspace(second)
    after = with_history(wanted, formats_to_remember(before, wanted))
    assert after.recognised_forms >= before.recognised_forms
    again = with_history(before, formats_to_remember(after, before))
    assert again.recognised_forms == after.recognised_forms
    assert len(again.previous_formats) == len(after.recognised_forms - {*before.forms.values()})


def test_a_format_that_changes_for_ever_is_refused_in_the_end() -> None:
    keyspace = compile_keyspace(with_format(template="kf0_{body}"))
    for number in range(1, 101):
        wanted = compile_keyspace(with_format(template=f"kf{number}_{{body}}"))
        keyspace = with_history(wanted, formats_to_remember(keyspace, wanted))
    assert len(keyspace.previous_formats) == 100
    one_too_many = compile_keyspace(with_format(template="new_{body}"))
    with pytest.raises(InvalidDeclaration) as caught:
        formats_to_remember(keyspace, one_too_many)
    assert caught.value.problems[0].where == "format"


def test_a_dropped_format_is_no_longer_recognised() -> None:
    before = compile_keyspace(with_format(template="old_{body}"))
    old = before.forms["secret", "live"].mint().reveal()
    wanted = compile_keyspace(with_format(template="new_{body}"))
    dropped = forms_to_drop(before, wanted, ["old_{body}", "was_never_{body}"])
    assert forms_to_drop(before, wanted, ["*"]) == dropped
    after = with_history(wanted, formats_to_remember(before, wanted, dropped))
    assert Recogniser({"acme": before.recognised_forms}).keyspaces_of(old) == {"acme"}
    assert Recogniser({"acme": after.recognised_forms}).keyspaces_of(old) == frozenset()
    assert after.previous_formats == ()


def test_the_format_that_stays_cannot_be_dropped() -> None:
    keyspace = compile_keyspace(with_format(template="old_{body}"))
    assert forms_to_drop(keyspace, keyspace, ["*"]) == set()


LOWER = string.ascii_lowercase
IDS = st.text(LOWER + string.digits, min_size=26, max_size=26)
NO_SECRETS = st.one_of(
    st.uuids().map(str),
    st.uuids().map(lambda one: one.hex),
    st.text(LOWER, max_size=30),
    st.lists(st.text(LOWER, max_size=14), max_size=8).map("-".join),
    st.lists(st.text(LOWER + string.digits, max_size=12), max_size=8).map("_".join),
    st.builds("{}{}".format, st.sampled_from(ID_PREFIXES), IDS),
)


@brief
@given(declarations(), NO_SECRETS)
def test_no_form_that_can_be_declared_matches_what_is_no_secret(
    declaration: KeyspaceDeclaration, text: str
) -> None:
    """A form that matched UUIDs, words or ids would make ordinary requests look like leaks."""
    recogniser = Recogniser({"acme": compile_keyspace(declaration).recognised_forms})
    for written in (text, f"see {text}, please", f"{text}@example.com", f"incident-{text}"):
        assert not recogniser.search(lambda _: True).finds_a_key_in(written)


@brief
@given(declarations(), st.sampled_from(["", "it was ", "(", "api-key=", "a_"]), st.data())
def test_the_greater_part_of_a_key_is_found_in_a_text(
    declaration: KeyspaceDeclaration, before: str, data: st.DataObject
) -> None:
    keyspace = compile_keyspace(declaration)
    form = data.draw(st.sampled_from(sorted(keyspace.forms.values(), key=str)))
    key = form.mint().reveal()
    recogniser = Recogniser({"acme": keyspace.recognised_forms})
    for part in (key, key[: len(form.prefix) + form.length - form.length // 4]):
        text = f"{before}{part}."
        assert recogniser.search(lambda name: name == "acme").finds_a_key_in(text)
        assert not recogniser.search(lambda _: False).finds_a_key_in(text)


def test_a_search_costs_the_same_however_many_forms_there_are() -> None:
    """Counted in look-ups of prefixes, which is all that grows with the forms."""

    class CountingDict(dict[str, Any]):
        looked_up = 0

        def get(self, key: str, default: Any = None) -> Any:
            CountingDict.looked_up += 1
            return super().get(key, default)

    text = "xq1_e1_" + "x" * 40 + " nothing of note, " * 100
    counts = []
    for number in (1, 900):
        forms = [replace(DEFAULT_FORM, prefix=f"xq{one:03}_e_") for one in range(number)]
        recogniser = Recogniser({"acme": forms})
        object.__setattr__(recogniser, "_by_prefix", CountingDict(recogniser._by_prefix))
        CountingDict.looked_up = 0
        assert not recogniser.search(lambda _: True).finds_a_key_in(text)
        assert not recogniser.keyspaces_of(text[:47])
        counts.append(CountingDict.looked_up)
    assert counts[0] == counts[1]


def test_markers_stand_in_for_long_names() -> None:
    keyspace = compile_keyspace(
        KeyspaceDeclaration(
            name="qs",
            format=replace(DEFAULT_FORMAT, template="qs_{type}_{environment}_{body}"),
            key_types=(KeyTypeDeclaration(name="secret", marker="sec"),),
            environments=(EnvironmentDeclaration(name="live"), EnvironmentDeclaration(name="test")),
        )
    )
    assert {form.prefix for form in keyspace.forms.values()} == {"qs_sec_live_", "qs_sec_test_"}


@pytest.mark.parametrize("alphabet", [*ALPHABETS.values(), "01", "abc"])
def test_each_character_of_a_body_is_as_likely_as_any_other(alphabet: str) -> None:
    letters, surplus = formats._letters_of(alphabet)
    counts = Counter(bytes(range(256)).translate(letters, surplus).decode())
    assert set(counts) == set(alphabet)
    assert len(set(counts.values())) == 1
