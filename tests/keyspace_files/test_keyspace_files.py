"""Keyspace files: every fault at its line, all of them at once, and round trips."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from domain.graphs import brief
from keyfence_server.adapters.keyspace_files.reading import (
    MAX_FILE_SIZE,
    KeyspaceFile,
    parse_keyspace_file,
)
from keyfence_server.adapters.keyspace_files.source_text import InvalidKeyspaceFile
from keyfence_server.adapters.keyspace_files.writing import write_keyspace_document
from keyfence_server.domain.declarations import (
    KeyDefaults,
    KeyspaceDeclaration,
    LevelDeclaration,
    PresetDeclaration,
    ResourceDeclaration,
    ScopeDeclaration,
)

HEAD = "keyspace: acme\n"


def read(text: str) -> KeyspaceFile:
    return parse_keyspace_file(textwrap.dedent(text).encode(), name="acme.yaml")


def faults_in(text: str) -> list[str]:
    """Each fault's first line, without the file's name, and what its mark is under."""
    with pytest.raises(InvalidKeyspaceFile) as caught:
        read(text)
    shown = []
    for fault in caught.value.faults:
        head, *excerpt = fault.render().splitlines()
        marked = ""
        if excerpt:
            line, marks = excerpt
            marked = line[marks.index("^") : marks.rindex("^") + 1]
        shown.append(f"{head.removeprefix('acme.yaml:')} <{marked}>")
    return shown


def test_a_circle_of_implications_is_shown_with_its_path_where_it_starts() -> None:
    text = """\
        keyspace: acme
        scopes:
          read:
            implies: write
          write:
            implies: [create]
          create: {implies: read}
        """
    (fault,) = faults_in(text)
    assert fault.startswith("7:21: scopes imply each other in a cycle: create → read → write")
    assert fault.endswith("<read>")


def test_an_unknown_scope_is_shown_with_the_nearest_known_one() -> None:
    text = """\
        keyspace: acme
        scopes:
          vps:read: Look
          vps:write:
            implies: [vps:reed]
        """
    assert faults_in(text) == [
        '5:15: scope "vps:reed" is not registered; did you mean "vps:read"? <vps:reed>'
    ]


def test_what_makes_no_sense_is_shown_in_one_go() -> None:
    """A scope that is not registered hides neither the presets, nor the caps, nor a key that
    would be too long."""
    text = """\
        keyspace: acme
        format:
          body: {length: 400}
        scopes:
          vps:read: Look
          vps:write: {implies: vps:reed}
        presets:
          full: [vps:rite]
        key_types:
          secret: {scope_cap: [dns:read]}
        """
    assert [fault.partition(": ")[0] for fault in faults_in(text)] == [
        "3:18",
        "6:24",
        "8:10",
        "10:24",
    ]


def test_a_scope_with_a_wrong_name_is_shown_once_and_not_wherever_it_is_named() -> None:
    text = """\
        keyspace: acme
        scopes:
          "vps read": Look
        presets:
          full: ["vps read"]
        """
    (fault,) = faults_in(text)
    assert fault.startswith("3:3: ")


def test_a_file_that_is_no_mapping_is_told_that_alone() -> None:
    assert faults_in("- a\n- b\n") == [" a mapping is needed here, not a list <>"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("environments: [live, test, live]", '"live" is in the list twice'),
        ("max_lifetime: 99999999999d", "at most 100 years"),
        ("format: {body: {length: 99999999999}}", "too large; the maximum is 2147483647"),
    ],
)
def test_a_fault_says_what_is_wrong_with_what_stands_there(line: str, message: str) -> None:
    (fault,) = faults_in(f"keyspace: acme\n{line}\n")
    assert message in fault


def test_a_name_that_stands_twice_is_shown_where_it_stands_again() -> None:
    text = """\
        keyspace: acme
        scopes:
          vps:read: Look
          vps:read: Look again
        """
    assert faults_in(text) == ['4:3: "vps:read" is given twice; the first is on line 3 <vps:read>']


def test_a_value_of_the_wrong_type_is_shown() -> None:
    text = """\
        keyspace: acme
        format:
          body: {alphabet: hex, length: many}
        key_types:
          secret: {manages_keys: "yes"}
        scopes: 12
        """
    assert faults_in(text) == [
        "3:33: a whole number is needed here, not text <many>",
        '5:26: true or false is needed here, not text <"yes">',
        "6:9: a mapping by name is needed here, not a number <12>",
    ]


def test_too_little_entropy_is_shown_with_the_length_that_would_do() -> None:
    text = """\
        keyspace: acme
        format:
          template: "acme_{body}"
          body: {alphabet: hex, length: 16, shown: 4}
        """
    (fault,) = faults_in(text)
    assert fault.startswith("4:33: 16 characters out of 16 are 64 bits of entropy")
    assert "a length of 32 <16>" in fault


def test_a_misspelt_field_is_shown_at_its_name_with_the_nearest_known_one() -> None:
    text = """\
        keyspace: acme
        scopes:
          vps:read: {implys: vps:list}
          vps:list: Look
        """
    assert faults_in(text) == [
        '3:14: "implys" is not a field here; did you mean "implies"? <implys>'
    ]


def test_the_name_that_the_api_has_for_a_field_is_led_to_the_one_of_the_file() -> None:
    text = """\
        name: parcelo
        format: {templates_by_key_type: {secret: "acme_{body}"}}
        """
    of_the_name, of_the_templates = faults_in(text)
    assert of_the_name == '1:1: "name" is not a field here; did you mean "keyspace"? <name>'
    assert of_the_templates.startswith('2:10: "templates_by_key_type" is not a field here')
    assert 'did you mean "templates"?' in of_the_templates


def test_broken_yaml_is_shown_like_every_other_fault() -> None:
    assert faults_in("keyspace: acme\npresets: {all: [*]}\n") == [
        '2:17: a wildcard must be in quotes: "*" <*>'
    ]


def test_the_faults_of_a_file_are_all_shown_at_once_from_top_to_bottom() -> None:
    text = """\
        keyspace: Acme
        format:
          template: "acme_{env}_{body}"
        scopes:
          vps:write: {implies: vps:raed}
          vps:read: Look
        environments: [live, "te st"]
        defaults: {preset: all, lifetime: 900d}
        max_lifetime: 90d
        """
    places = [fault.split(": ")[0] for fault in faults_in(text)]
    assert places == ["1:11", "3:13", "5:24", "7:22", "8:20", "8:35"]


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("resources:\n  Projects: [read]\n", "3:3"),
        ("resources:\n  projects: [read, Write]\n", "3:20"),
        ("resources:\n  projects: {levels: {Read: x}}\n", "3:23"),
        ("presets:\n  all: [nothing]\n", "3:9"),
        ("presets:\n  all: {scopes: nothing}\n", "3:17"),
        ("presets:\n  all: []\n", "3:3"),
        ("key_types:\n  secret: {marker: '#'}\n", "3:20"),
        ("format:\n  templates: {secret: 'x'}\n", "3:15"),
        ("format:\n  templates: {other: 'x_{body}'}\n", "3:15"),
    ],
)
def test_short_and_long_forms_are_both_pointed_into(rest: str, expected: str) -> None:
    faults = faults_in(HEAD + rest)
    assert expected in [fault.split(": ")[0] for fault in faults]


def test_a_missing_name_is_said_without_a_place() -> None:
    assert faults_in("display_name: Acme\n") == [" keyspace: is missing <>"]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("keyspace.scopes[vps:read].implies[0]", "4:14"),
        ("scopes[vps:read].implies[0]", "4:14"),
        ("keyspace.name", "1:11"),
        ("name", "1:11"),
        ("keyspace.format.templates_by_key_type[secret]", "6:22"),
        ("keyspace.format.body.length", "6:1"),
        ("scopes", "2:1"),
    ],
)
def test_what_a_server_finds_is_shown_at_the_line_too(path: str, place: str) -> None:
    file = read(
        """\
        keyspace: acme
        scopes:
          vps:read:
            implies: vps:list
          vps:list: Look
        format: {templates: {secret: "acme_{body}"}}
        """
    )
    (fault,) = file.faults([(path, "the server does not like it")]).faults
    assert fault.span is not None
    assert f"{fault.span.line}:{fault.span.column}" == place


def test_what_a_server_says_about_nothing_in_the_file_is_said_with_its_path() -> None:
    (fault,) = read(HEAD).faults([("if_revision", "is too large")]).faults
    assert fault.render() == "acme.yaml: if_revision: is too large"


def test_a_file_that_is_not_utf_8_is_refused_at_the_first_bad_byte() -> None:
    with pytest.raises(InvalidKeyspaceFile) as caught:
        parse_keyspace_file(b"keyspace: acme\ndisplay_name: \xff\n", name="acme.yaml")
    assert "acme.yaml:2:15: the text is not UTF-8" in str(caught.value)


def test_a_byte_order_mark_does_no_harm() -> None:
    file = parse_keyspace_file(b"\xef\xbb\xbfkeyspace: acme\n", name="acme.yaml")
    assert file.declaration.name == "acme"


def test_a_huge_file_is_refused_unread() -> None:
    with pytest.raises(InvalidKeyspaceFile, match="at most 2 MiB"):
        parse_keyspace_file(b"#" * (MAX_FILE_SIZE + 1), name="huge.yaml")


PEOPLE_WRITE = st.text(max_size=40)
PARTS = st.from_regex(r"[a-z0-9_.-]{1,12}", fullmatch=True)


@st.composite
def declarations(draw: st.DrawFn) -> KeyspaceDeclaration:
    """Sound declarations whose texts are anything."""
    names = draw(st.lists(PARTS, unique=True, max_size=6))
    scopes = tuple(
        ScopeDeclaration(
            name=f"s:{name}",
            description=draw(PEOPLE_WRITE),
            implies=tuple(f"s:{earlier}" for earlier in names[:index] if draw(st.booleans())),
        )
        for index, name in enumerate(names)
    )
    levels = draw(st.lists(PARTS, unique=True, min_size=1, max_size=4))
    resources = (
        ResourceDeclaration(
            name="r",
            display_name=draw(PEOPLE_WRITE),
            levels=tuple(
                LevelDeclaration(name=level, description=draw(PEOPLE_WRITE)) for level in levels
            ),
        ),
    )
    presets = (
        PresetDeclaration(name=draw(PARTS), display_name=draw(PEOPLE_WRITE), scopes=("*", "r:*")),
    )
    return KeyspaceDeclaration(
        name="acme",
        display_name=draw(PEOPLE_WRITE),
        description=draw(PEOPLE_WRITE),
        scopes=scopes,
        resources=resources,
        presets=presets,
        defaults=KeyDefaults(display_name=draw(PEOPLE_WRITE)),
    )


@brief
@given(declarations())
def test_what_is_written_reads_as_the_same_declaration(declaration: KeyspaceDeclaration) -> None:
    written = write_keyspace_document(declaration)
    assert parse_keyspace_file(written.encode(), name="acme.yaml").declaration == declaration


@brief
@given(declarations())
def test_what_is_written_means_the_same_to_any_other_reader_of_yaml(
    declaration: KeyspaceDeclaration,
) -> None:
    written = write_keyspace_document(declaration)
    ours = parse_keyspace_file(written.encode(), name="acme.yaml").document.data
    assert yaml.safe_load(written) == ours


@pytest.mark.parametrize("name", ["08", "-09", "0", "null", "~", "true", "", "yes", "1e3"])
def test_a_name_that_looks_like_a_value_stays_text(name: str) -> None:
    declaration = KeyspaceDeclaration(
        name="acme",
        scopes=(ScopeDeclaration(name="read"),),
        defaults=KeyDefaults(display_name=name),
    )
    written = write_keyspace_document(declaration)
    again = parse_keyspace_file(written.encode(), name="acme.yaml").declaration
    assert again.defaults.display_name == name


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "examples" / "keyspaces").glob("*.yaml")), ids=str
)
def test_every_example_reads_and_can_be_written_and_read_again(path: Path) -> None:
    declaration = parse_keyspace_file(path.read_bytes(), name=path.name).declaration
    assert declaration.name == path.stem
    written = write_keyspace_document(declaration)
    assert parse_keyspace_file(written.encode(), name="again").declaration == declaration
