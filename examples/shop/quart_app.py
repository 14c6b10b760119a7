"""The shop as a Quart app."""

import os

from quart import Quart, abort, request

from accounts.models import Customer
from ampho import AsyncAmpho, AsyncSQLAlchemy
from database import Base
from orders.models import Order, OrderLine
from orders.queries import find_book, find_customer, orders_of

app = Quart(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ.get("SHOP_DATABASE_URL", "sqlite+aiosqlite:///shop.db")
app.config["AMPHO_MIGRATION_PACKAGES"] = ["accounts", "catalog", "orders"]

db = AsyncSQLAlchemy(app, model_class=Base)
AsyncAmpho(app, db)


@app.post("/orders")
async def place_order():
    wanted = await request.get_json()
    book = await db.session.scalar(find_book(wanted["isbn"]))
    if book is None or book.stock < wanted["quantity"]:
        abort(409, "There are not that many of this book.")
    book.stock -= wanted["quantity"]
    customer = await db.session.scalar(find_customer(wanted["email"]))
    if customer is None:
        customer = Customer(email=wanted["email"].lower(), name=wanted["name"])
    line = OrderLine(book=book, quantity=wanted["quantity"], unit_price=book.price)
    order = Order(customer=customer, lines=[line])
    db.session.add(order)
    await db.session.commit()
    return {"order": order.id, "left": book.stock}, 201


@app.get("/orders/<email>")
async def list_orders(email):
    orders = await db.session.execute(orders_of(email))
    return [dict(order) for order in orders.mappings()]
