"""The blog of `flask_blog.py`, ported to Quart and AsyncSQLAlchemy as docs/async-sqlalchemy.md describes."""

from quart import Blueprint, Quart, flash, get_flashed_messages, jsonify, redirect, render_template, request, url_for
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

from ampho import AsyncSQLAlchemy
from ampho.aio.sqlalchemy import get_recorded_queries


class Base(DeclarativeBase):
    pass


db = AsyncSQLAlchemy(model_class=Base)

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


with_author = db.select(Post).options(selectinload(Post.author))


def note(action):
    db.session.add(Entry(action=action))


blog = Blueprint("blog", __name__)


@blog.after_request
async def count_queries(response):
    response.headers["X-Queries"] = len(get_recorded_queries())
    return response


@blog.app_errorhandler(404)
async def not_found(error):
    return await render_template("message.html", message=error.description), 404


@blog.get("/")
async def home():
    page = await db.paginate(with_author.order_by(Post.id.desc()), per_page=3)
    return await render_template("home.html", page=page, messages=get_flashed_messages())


@blog.get("/posts/<int:post_id>")
async def show_post(post_id):
    loaded = [selectinload(Post.author), selectinload(Post.comments), selectinload(Post.tags)]
    post = await db.get_or_404(Post, post_id, options=loaded, description="There is no such post.")
    return await render_template("post.html", post=post)


@blog.route("/posts/new", methods=["GET", "POST"])
async def new_post():
    if request.method == "GET":
        return await render_template("form.html", post=None)
    form = await request.form
    author = await db.one_or_404(db.select(Author).filter_by(name=form["author"]))
    post = Post(title=form["title"], text=form.get("text", ""), author=author)
    db.session.add(post)
    note(f"post by {author.name}")
    await db.session.commit()
    await flash(f"{post.title} is published.")
    return redirect(url_for(".show_post", post_id=post.id))


@blog.route("/posts/<int:post_id>/edit", methods=["GET", "POST"])
async def edit_post(post_id):
    post = await db.get_or_404(Post, post_id)
    if request.method == "GET":
        return await render_template("form.html", post=post)
    post.title = (await request.form)["title"]
    await db.session.commit()
    return redirect(url_for(".show_post", post_id=post.id))


@blog.post("/posts/<int:post_id>/delete")
async def delete_post(post_id):
    post = await db.get_or_404(Post, post_id)
    await db.session.delete(post)
    note(f"deleted {post.title}")
    await db.session.commit()
    return redirect(url_for(".home"))


@blog.post("/posts/<int:post_id>/comments")
async def add_comment(post_id):
    post = await db.get_or_404(Post, post_id)
    (await post.awaitable_attrs.comments).append(Comment(text=(await request.form)["text"]))
    await db.session.commit()
    return redirect(url_for(".show_post", post_id=post_id))


@blog.post("/posts/<int:post_id>/tags")
async def add_tag(post_id):
    post = await db.get_or_404(Post, post_id)
    name = (await request.form)["name"]
    tag = await db.session.scalar(db.select(Tag).filter_by(name=name)) or Tag(name=name)
    if tag not in await post.awaitable_attrs.tags:
        post.tags.append(tag)
    await db.session.commit()
    return redirect(url_for(".show_tag", name=tag.name))


@blog.get("/tags/<name>")
async def show_tag(name):
    tag = await db.first_or_404(db.select(Tag).filter_by(name=name))
    posts = await db.session.scalars(with_author.where(Post.tags.contains(tag)).order_by(Post.id))
    return await render_template("posts.html", title=tag.name, posts=posts)


@blog.get("/authors")
async def list_authors():
    counted = db.select(Author, db.func.count(Post.id)).outerjoin(Post).group_by(Author.id).order_by(Author.name)
    return jsonify({author.name: number for author, number in await db.session.execute(counted)})


@blog.post("/authors")
async def add_author():
    name = (await request.form)["name"]
    db.session.add(Author(name=name))
    try:
        await db.session.commit()
    except db.exc.IntegrityError:
        await db.session.rollback()
        return await render_template("message.html", message="That name is taken."), 409
    return redirect(url_for(".show_author", name=name))


@blog.get("/authors/<name>")
async def show_author(name):
    author = await db.one_or_404(db.select(Author).filter_by(name=name))
    return await render_template("posts.html", title=author.name, posts=await author.awaitable_attrs.posts)


@blog.get("/search")
async def search():
    matching = with_author.where(Post.title.contains(request.args.get("q", ""))).order_by(Post.title)
    found = (await db.session.scalars(matching)).all()
    return await render_template("posts.html", title="Search", posts=found)


@blog.get("/api/posts")
async def api_posts():
    page = await db.paginate(with_author.order_by(Post.id), max_per_page=4)
    following = await page.next() if page.has_next else None
    return jsonify(
        posts=[{"id": post.id, "title": post.title, "author": post.author.name} for post in page],
        next=following and [post.id for post in following],
        total=page.total,
    )


@blog.get("/api/posts/<int:post_id>")
async def api_post(post_id):
    post = await db.session.get(Post, post_id, options=[selectinload(Post.comments)])
    if post is None:
        return jsonify(error="no such post"), 404
    return jsonify(title=post.title, comments=[comment.text for comment in post.comments])


@blog.get("/audit")
async def audit():
    entries = (await db.session.execute(db.select(Entry).order_by(Entry.id))).scalars()
    return jsonify([entry.action for entry in entries])


def create_app():
    app = Quart(__name__)
    app.config["SECRET_KEY"] = "for flash()"
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite+aiosqlite://"
    app.config["SQLALCHEMY_BINDS"] = {"audit": "sqlite+aiosqlite://"}
    app.config["SQLALCHEMY_RECORD_QUERIES"] = True
    db.init_app(app)
    app.register_blueprint(blog)
    app.before_serving(db.create_all)
    return app
