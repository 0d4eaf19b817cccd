"""Which rights go with a role: its own, and those that rest upon them."""

from __future__ import annotations

from irflow.core.databases import Grant, Membership, RoleAccess, grants_that_go, memberships_that_go


def grant(text: str, *, column: str = "", option: bool = True, on: str = "orders") -> Grant:
    """`owner>deploy`: what the first gave to the second."""
    grantor, grantee = text.split(">")
    return Grant(
        kind="TABLE", object=("public", on), column=column, privilege="SELECT", grantee=grantee, grantor=grantor,
        grantable=option,
    )  # fmt: skip


def test_what_a_role_handed_on_goes_with_it_however_far() -> None:
    own, second, third = grant("owner>deploy"), grant("deploy>helper"), grant("helper>friend", option=False)
    others = [grant("owner>owner"), grant("owner>web"), grant("owner>deploy", on="stock"), grant("web>friend")]
    found = grants_that_go("deploy", [third, *others, second, own])
    assert found == (others[2], own, second, third)


def test_a_right_to_a_table_is_one_to_each_column() -> None:
    own, column = grant("owner>deploy"), grant("deploy>helper", column="card")
    assert grants_that_go("deploy", [column, own]) == (own, column)
    assert grants_that_go("deploy", [grant("owner>deploy", column="id"), column]) == (
        grant("owner>deploy", column="id"),
    )


def test_what_a_role_could_not_hand_on_was_somebody_elses_to_give() -> None:
    own = grant("owner>deploy", option=False)
    assert grants_that_go("deploy", [own, grant("deploy>helper")]) == (own,)


def test_what_an_owner_gave_does_not_go_with_its_grants() -> None:
    assert grants_that_go("owner", [grant("owner>owner"), grant("owner>web")]) == ()


def test_a_circle_ends() -> None:
    circle = [grant("owner>a"), grant("a>b"), grant("b>a")]
    assert set(grants_that_go("a", circle)) == set(circle)


def test_memberships_that_a_role_handed_on_go_with_it() -> None:
    own = Membership(group="readers", member="deploy", grantor="owner", admin=True)
    second = Membership(group="readers", member="friend", grantor="deploy")
    other = Membership(group="readers", member="web", grantor="owner")
    elsewhere = Membership(group="writers", member="friend", grantor="deploy")
    assert memberships_that_go("deploy", [other, second, elsewhere, own]) == (own, second)


def test_a_role_is_closed_only_when_nothing_is_left() -> None:
    closed = RoleAccess(role="deploy", login=False, sessions=0, owns=3)
    assert closed.closed
    for left in ({"login": True}, {"sessions": 1}, {"grants": (grant("owner>deploy"),)}):
        assert not closed.model_copy(update=left).closed
    assert closed.shown == "no login, 0 sessions, 0 grants, 0 memberships"
