"""The tables of who may look: accounts, sign-ins, which hospitals a session is routed to, break-glass, consent."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, SmallInteger, String, Table
from sqlalchemy import UniqueConstraint as Unique

from cloud.store.schema import metadata

# A person. Without an issuer the name is the subject and the password is here; with one another house vouches.
account = Table(
    "account",
    metadata,
    Column("name", String, primary_key=True),
    Column("issuer", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("title", String, nullable=False),  # what a screen shows
    Column("role", String, nullable=False),
    Column("hospital", String, nullable=False),
    Column("password_hash", String, nullable=False),  # '': no password opens it
    Column("is_disabled", SmallInteger, nullable=False),
    Column("made_us", BigInteger, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    Unique("issuer", "subject"),
)

# One browser signed in. The id itself is only in its cookie. Role and hospital are those it began with: when the
# account's are others, it is over.
sign_in = Table(
    "sign_in",
    metadata,
    Column("id_hash", LargeBinary, primary_key=True),
    Column("account", String, ForeignKey("account.name"), nullable=False),
    Column("role", String, nullable=False),
    Column("hospital", String, nullable=False),
    Column("source", String, nullable=False),
    Column("began_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Index("sign_in_by_account", "account"),
    Index("sign_in_by_began", "began_us"),
)

# Appended, never changed: the newest row of a session and hospital says whether it is routed there.
session_hospital = Table(
    "session_hospital",
    metadata,
    Column("routing_id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("session_id", String, nullable=False),
    Column("hospital", String, nullable=False),
    Column("is_routed", SmallInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("routed_by", String, nullable=False),
    Index("session_hospital_by_session", "session_id", "hospital", "routing_id"),
)

break_glass = Table(
    "break_glass",
    metadata,
    Column("grant_id", String, primary_key=True),
    Column("account", String, nullable=False),
    Column("hospital", String, nullable=False),
    Column("session_id", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("opened_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Index("break_glass_by_account", "account", "session_id"),
    Index("break_glass_by_opened", "opened_us"),
)

# One a grant, by somebody else: the key keeps a second review out.
break_glass_review = Table(
    "break_glass_review",
    metadata,
    Column("grant_id", String, ForeignKey("break_glass.grant_id"), primary_key=True),
    Column("reviewer", String, nullable=False),
    Column("note", String, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)

# Appended, never changed: the newest row of a session and purpose stands.
consent = Table(
    "consent",
    metadata,
    Column("consent_id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("session_id", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("basis", String, nullable=False),
    Column("note", String, nullable=False),
    Column("recorded_by", String, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Index("consent_by_session", "session_id", "purpose", "consent_id"),
)
