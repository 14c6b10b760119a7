"""A blog in Flask with Flask-SQLAlchemy, of the kind that `quart_blog.py` is ported from."""

from flask import Blueprint, Flask, flash, get_flashed_messages, jsonify, redirect, render_template, request, url_for
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.record_queries import get_recorded_queries
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)

post_tag = db.Table(
    "post_tag",
    db.Column("post_id", db.ForeignKey("post.id"), primary_key=True),
    db.Column("tag_id", db.ForeignKey("tag.id"), primary_key=True),
)


class Author(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(db.String(30), unique=True)
    posts: Mapped[list["Post"]] = relationship(back_populates="author", order_by="Post.id")


class Post(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(db.String(80))
    text: Mapped[str] = mapped_column(db.Text, default="")
    author_id: Mapped[int] = mapped_column(db.ForeignKey(Author.id))
    author: Mapped[Author] = relationship(back_populates="posts")
    comments: Mapped[list["Comment"]] = relationship(cascade="all, delete-orphan", order_by="Comment.id")
    tags: Mapped[list["Tag"]] = relationship(secondary=post_tag, order_by="Tag.name")


class Comment(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int] = mapped_column(db.ForeignKey(Post.id))
    text: Mapped[str]


class Tag(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Entry(db.Model):
    __bind_key__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True)
    action: Mapped[str]


def note(action):
    db.session.add(Entry(action=action))


blog = Blueprint("blog", __name__)


@blog.after_request
def count_queries(response):
    response.headers["X-Queries"] = len(get_recorded_queries())
    return response


@blog.app_errorhandler(404)
def not_found(error):
    return render_template("message.html", message=error.description), 404


@blog.get("/")
def home():
    page = db.paginate(db.select(Post).order_by(Post.id.desc()), per_page=3)
    return render_template("home.html", page=page, messages=get_flashed_messages())


@blog.get("/posts/<int:post_id>")
def show_post(post_id):
    return render_template("post.html", post=db.get_or_404(Post, post_id, description="There is no such post."))


@blog.route("/posts/new", methods=["GET", "POST"])
def new_post():
    if request.method == "GET":
        return render_template("form.html", post=None)
    author = db.one_or_404(db.select(Author).filter_by(name=request.form["author"]))
    post = Post(title=request.form["title"], text=request.form.get("text", ""), author=author)
    db.session.add(post)
    note(f"post by {author.name}")
    db.session.commit()
    flash(f"{post.title} is published.")
    return redirect(url_for(".show_post", post_id=post.id))


@blog.route("/posts/<int:post_id>/edit", methods=["GET", "POST"])
def edit_post(post_id):
    post = db.get_or_404(Post, post_id)
    if request.method == "GET":
        return render_template("form.html", post=post)
    post.title = request.form["title"]
    db.session.commit()
    return redirect(url_for(".show_post", post_id=post.id))


@blog.post("/posts/<int:post_id>/delete")
def delete_post(post_id):
    post = db.get_or_404(Post, post_id)
    db.session.delete(post)
    note(f"deleted {post.title}")
    db.session.commit()
    return redirect(url_for(".home"))


@blog.post("/posts/<int:post_id>/comments")
def add_comment(post_id):
    post = db.get_or_404(Post, post_id)
    post.comments.append(Comment(text=request.form["text"]))
    db.session.commit()
    return redirect(url_for(".show_post", post_id=post_id))


@blog.post("/posts/<int:post_id>/tags")
def add_tag(post_id):
    post = db.get_or_404(Post, post_id)
    tag = Tag.query.filter_by(name=request.form["name"]).first() or Tag(name=request.form["name"])
    if tag not in post.tags:
        post.tags.append(tag)
    db.session.commit()
    return redirect(url_for(".show_tag", name=tag.name))


@blog.get("/tags/<name>")
def show_tag(name):
    tag = db.first_or_404(db.select(Tag).filter_by(name=name))
    posts = db.session.scalars(db.select(Post).where(Post.tags.contains(tag)).order_by(Post.id))
    return render_template("posts.html", title=tag.name, posts=posts)


@blog.get("/authors")
def list_authors():
    counted = db.select(Author, db.func.count(Post.id)).outerjoin(Post).group_by(Author.id).order_by(Author.name)
    return jsonify({author.name: number for author, number in db.session.execute(counted)})


@blog.post("/authors")
def add_author():
    db.session.add(Author(name=request.form["name"]))
    try:
        db.session.commit()
    except db.exc.IntegrityError:
        db.session.rollback()
        return render_template("message.html", message="That name is taken."), 409
    return redirect(url_for(".show_author", name=request.form["name"]))


@blog.get("/authors/<name>")
def show_author(name):
    author = db.one_or_404(db.select(Author).filter_by(name=name))
    return render_template("posts.html", title=author.name, posts=author.posts)


@blog.get("/search")
def search():
    found = Post.query.filter(Post.title.contains(request.args.get("q", ""))).order_by(Post.title).all()
    return render_template("posts.html", title="Search", posts=found)


@blog.get("/api/posts")
def api_posts():
    page = db.paginate(db.select(Post).order_by(Post.id), max_per_page=4)
    following = page.next() if page.has_next else None
    return jsonify(
        posts=[{"id": post.id, "title": post.title, "author": post.author.name} for post in page],
        next=following and [post.id for post in following],
        total=page.total,
    )


@blog.get("/api/posts/<int:post_id>")
def api_post(post_id):
    post = db.session.get(Post, post_id)
    if post is None:
        return jsonify(error="no such post"), 404
    return jsonify(title=post.title, comments=[comment.text for comment in post.comments])


@blog.get("/audit")
def audit():
    entries = db.session.execute(db.select(Entry).order_by(Entry.id)).scalars()
    return jsonify([entry.action for entry in entries])


def create_app():
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "for flash()"
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    app.config["SQLALCHEMY_BINDS"] = {"audit": "sqlite://"}
    app.config["SQLALCHEMY_RECORD_QUERIES"] = True
    db.init_app(app)
    app.register_blueprint(blog)
    with app.app_context():
        db.create_all()
    return app
