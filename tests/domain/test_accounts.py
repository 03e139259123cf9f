"""Accounts: which addresses are the same, which passwords may be chosen, what may be declared."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.graphs import brief
from keyfence_server.domain.accounts import (
    MAX_PASSWORD_BYTES,
    Email,
    PasswordHash,
    normalized_password,
    parse_email,
    password_problem,
)
from keyfence_server.domain.declarations import (
    AccountsDeclaration,
    KeyspaceDeclaration,
    Registration,
    ScopeDeclaration,
)
from keyfence_server.domain.documents import declaration_from_document, declaration_to_document
from keyfence_server.domain.errors import InvalidDeclaration
from keyfence_server.domain.keyspaces import compile_keyspace
from keyfence_server.domain.secrets import Plaintext

ANNA = Email("Anna@Example.com")


class TestEmail:
    @pytest.mark.parametrize(
        "text",
        [
            "anna@example.com",
            "Anna.O'Neill+lists@mail.example.co.uk",
            "a@localhost",
            "x@xn--bcher-kva.example",
            f"{'a' * 64}@example.com",
        ],
    )
    def test_addresses_are_kept_as_they_were_given(self, text: str) -> None:
        assert parse_email(text).text == text

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "anna",
            "@example.com",
            "anna@",
            "anna@@example.com",
            "anna@example..com",
            ".anna@example.com",
            "anna.@example.com",
            "an..na@example.com",
            "anna@-example.com",
            "anna@example-.com",
            "anna @example.com",
            "anna@example.com\n",
            "anna@example.com\0",
            '"anna"@example.com',
            "anna@[192.0.2.1]",
            "anna@example.com, bert@example.com",
            f"{'a' * 65}@example.com",
            f"a@{'b' * 63}.{'c' * 63}.{'d' * 63}.{'e' * 63}.com",
            "annä@example.com",
            "anna@exämple.com",
            "ａnna@example.com",  # noqa: RUF001 - a letter of full width
        ],
    )
    def test_what_no_mail_server_takes_is_no_address(self, text: str) -> None:
        with pytest.raises(ValueError, match=r".") as caught:
            parse_email(text)
        assert not text or text not in str(caught.value)

    def test_the_case_of_letters_alone_does_not_tell_addresses_apart(self) -> None:
        assert parse_email("ANNA@Example.COM").identity == ANNA.identity
        for other in ("anna.@example.com", "an.na@example.com", "anna+1@example.com"):
            assert Email(other).identity != ANNA.identity

    @brief
    @given(*[st.text("aAbB.@", min_size=3, max_size=5)] * 2)
    def test_no_two_addresses_that_differ_in_more_than_case_are_one(
        self, first: str, second: str
    ) -> None:
        """Unicode has letters that turn into others when their case is changed."""
        try:
            one, other = parse_email(first), parse_email(second)
        except ValueError:
            return
        assert (one.identity == other.identity) == (first.casefold() == second.casefold())

    @pytest.mark.parametrize("letter", ["\u0131", "\u212a", "\u017f", "\ufb01", "\u0130"])
    def test_a_letter_that_another_one_could_be_taken_for_is_refused(self, letter: str) -> None:
        with pytest.raises(ValueError, match="ASCII"):
            parse_email(f"{letter}@example.com")


class TestPasswords:
    def problem(self, text: str, min_length: int = 12) -> str | None:
        return password_problem(Plaintext(text), min_length=min_length, email=ANNA)

    def test_the_keyspace_s_minimum_counts_characters(self) -> None:
        assert self.problem("twelve chars") is None
        assert self.problem("eleven char") == "at least 12 characters"
        assert self.problem("päßwört-éàî", min_length=11) is None

    @pytest.mark.parametrize("text", ["aaaaaaaaaaaaaaaa", "abababababababab", "anna@example.com"])
    def test_the_worst_are_refused_whatever_their_length(self, text: str) -> None:
        assert self.problem(text) is not None

    def test_the_part_before_the_at_is_no_password_either(self) -> None:
        long = Email("christopher.robin@example.com")
        problem = password_problem(Plaintext("Christopher.Robin"), min_length=12, email=long)
        assert problem is not None

    def test_one_password_typed_on_two_keyboards_is_one(self) -> None:
        composed, decomposed = Plaintext("p\u00e4ssw\u00f6rt"), Plaintext("pa\u0308sswo\u0308rt")
        assert normalized_password(composed) == normalized_password(decomposed)

    @pytest.mark.parametrize(
        "text", ["x" * (MAX_PASSWORD_BYTES + 1), "ä" * (MAX_PASSWORD_BYTES // 2 + 1), "x" * 10**6]
    )
    def test_what_is_too_long_is_not_looked_at(self, text: str) -> None:
        with pytest.raises(ValueError, match="bytes"):
            normalized_password(Plaintext(text))

    def test_a_hash_is_redacted_in_every_text(self) -> None:
        assert "canary" not in repr(PasswordHash("canary", 1))


class TestDeclaration:
    SCOPES = (ScopeDeclaration(name="vps:read"), ScopeDeclaration(name="vps:write"))

    def compiled(self, **fields: Any) -> None:
        accounts = AccountsDeclaration(**fields)
        compile_keyspace(KeyspaceDeclaration(name="k", scopes=self.SCOPES, accounts=accounts))

    @pytest.mark.parametrize(
        ("field", "wrong"),
        [
            ("password_min_length", 7),
            ("password_min_length", 129),
            ("session_lifetime", timedelta(seconds=59)),
            ("session_lifetime", timedelta(days=90, seconds=1)),
            ("session_lifetime", timedelta(minutes=1, microseconds=1)),
            ("default_plan", "Not a plan"),
            ("grantable_scopes", ("vps:reed",)),
        ],
    )
    def test_what_makes_no_sense_is_named_by_its_place(self, field: str, wrong: object) -> None:
        with pytest.raises(InvalidDeclaration) as caught:
            self.compiled(**{field: wrong})
        (problem,) = caught.value.problems
        assert problem.where.startswith(f"accounts.{field}")

    @pytest.mark.parametrize("document", [None, {}])
    def test_an_empty_section_means_accounts_that_operators_make(self, document: object) -> None:
        declared = declaration_from_document({"keyspace": "k", "accounts": document})
        assert declared.accounts == AccountsDeclaration()
        assert declared.accounts.registration is Registration.CLOSED
        assert declaration_from_document(declaration_to_document(declared)) == declared

    def test_no_section_means_no_accounts(self) -> None:
        assert declaration_from_document({"keyspace": "k"}).accounts is None

    def test_a_registration_is_open_or_closed(self) -> None:
        document = {"keyspace": "k", "accounts": {"registration": "opne", "sesion_lifetime": "1h"}}
        with pytest.raises(InvalidDeclaration) as caught:
            declaration_from_document(document)
        problems = {one.where: one.message for one in caught.value.problems}
        assert problems.keys() == {"accounts.registration", "accounts.sesion_lifetime"}
        assert "session_lifetime" in problems["accounts.sesion_lifetime"]

    @brief
    @given(
        st.builds(
            AccountsDeclaration,
            registration=st.sampled_from(Registration),
            password_min_length=st.integers(8, 128),
            session_lifetime=st.integers(60, 90 * 86_400).map(lambda n: timedelta(seconds=n)),
            default_plan=st.sampled_from(["", "free", "pro-2"]),
            grantable_scopes=st.lists(
                st.sampled_from(["vps:read", "vps:write", "vps:*", "*"]), unique=True
            ).map(tuple),
        )
    )
    def test_whatever_may_be_declared_comes_back_from_the_store_as_it_was(
        self, accounts: AccountsDeclaration
    ) -> None:
        declared = KeyspaceDeclaration(name="k", scopes=self.SCOPES, accounts=accounts)
        compile_keyspace(declared)
        assert declaration_from_document(declaration_to_document(declared)) == declared
