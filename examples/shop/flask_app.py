"""The shop as a Flask app."""

import os

from flask import Flask, abort, request
from flask_sqlalchemy import SQLAlchemy

from accounts.models import Customer
from ampho import Ampho
from database import Base
from orders.models import Order, OrderLine
from orders.queries import find_book, find_customer, orders_of

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ.get("SHOP_DATABASE_URL", "sqlite:///shop.db")
app.config["AMPHO_MIGRATION_PACKAGES"] = ["accounts", "catalog", "orders"]

db = SQLAlchemy(app, model_class=Base)
Ampho(app, db)


@app.post("/orders")
def place_order():
    wanted = request.get_json()
    book = db.session.scalar(find_book(wanted["isbn"]))
    if book is None or book.stock < wanted["quantity"]:
        abort(409, "There are not that many of this book.")
    book.stock -= wanted["quantity"]
    customer = db.session.scalar(find_customer(wanted["email"]))
    if customer is None:
        customer = Customer(email=wanted["email"].lower(), name=wanted["name"])
    line = OrderLine(book=book, quantity=wanted["quantity"], unit_price=book.price)
    order = Order(customer=customer, lines=[line])
    db.session.add(order)
    db.session.commit()
    return {"order": order.id, "left": book.stock}, 201


@app.get("/orders/<email>")
def list_orders(email):
    orders = db.session.execute(orders_of(email))
    return [dict(order) for order in orders.mappings()]
