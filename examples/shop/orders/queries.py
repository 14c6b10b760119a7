"""Statements that both apps run, one with ``await`` and one without."""

from sqlalchemy import Select, select

from accounts.models import Customer
from catalog.models import Book

from .models import Order, OrderLine


def find_customer(email: str) -> Select[tuple[Customer]]:
    return select(Customer).where(Customer.email == email.lower())


def find_book(isbn: str) -> Select[tuple[Book]]:
    return select(Book).where(Book.isbn == isbn).with_for_update()


def orders_of(email: str) -> Select[tuple[int, str, int]]:
    return (
        select(Order.id.label("order"), Book.title, OrderLine.quantity)
        .join_from(Order, OrderLine)
        .join(OrderLine.book)
        .join(Order.customer)
        .where(Customer.email == email.lower())
        .order_by(Order.placed_at, Order.id, Book.title)
    )
